"""The verdict on a model folder before any of it is loaded; nothing in it runs."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.adapted import family_of
from engine.checkpoint.adapted.tensors import native_tensors
from engine.checkpoint.adapter import refuse_adapter_beside_model
from engine.checkpoint.code import refuse_kernels
from engine.checkpoint.config import read_config
from engine.checkpoint.consistency import check_consistency
from engine.checkpoint.files import JsonObject, read_json
from engine.checkpoint.gates import (
    list_folder,
    refuse_own_weights_file,
    remarks,
    require_library,
    require_native,
    require_weights,
)
from engine.checkpoint.lora import with_adapter
from engine.checkpoint.own_code import own_classes
from engine.checkpoint.tensors import read_tensors
from engine.checkpoint.verdict import Verdict
from engine.errors import NeedsConsent


def inspect_folder(folder: Path, *, may_run_code: bool = False, adapter: Path | None = None) -> Verdict:
    """Judge a model folder.

    Args:
        folder: of the model.
        may_run_code: the person agreed to the repository's own code, which is checked before it is imported.
        adapter: folder of the one that is merged into the model.

    Raises:
        NotACheckpoint: there is no config.json, or nothing that holds weights.
        NeedsConsent: it needs code of its own.
        UnsafeCheckpoint: its weights are pickles, or its code cannot be loaded.
        DamagedCheckpoint: files are missing, malformed, contradictory, or lead out of the folder.
        UnsupportedModel: it is sound, and nothing installed runs it.
    """
    names = list_folder(folder)
    config = read_json(folder, "config.json")
    refuse_kernels(config)
    own_class, runs_code = _class_of(folder, config, may_run_code=may_run_code)
    require_weights(folder, names)
    refuse_own_weights_file(folder, config)
    refuse_adapter_beside_model(folder)
    model = read_config(folder)
    require_library(model)
    tensors = read_tensors(folder)
    family = family_of(config)
    if family is not None:
        tensors = native_tensors(tensors, family.layout, model)
    check_consistency(model, tensors)
    verdict = Verdict(
        folder=folder,
        config=model,
        tensors=tensors,
        native_class=own_class,
        warnings=remarks(folder, names, model, runs_code=runs_code),
        is_renamed=family is not None and family.layout.is_renamed,
        runs_code=runs_code,
    )
    return verdict if adapter is None else with_adapter(verdict, adapter)


def _class_of(folder: Path, config: JsonObject, *, may_run_code: bool) -> tuple[str, bool]:
    """The class that runs the checkpoint, and whether it is the repository's own."""
    try:
        return require_native(folder, config), False
    except NeedsConsent:
        brought = own_classes(folder)
        if brought is None or not may_run_code:
            raise
        return brought.model.name, True
