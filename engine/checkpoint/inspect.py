"""The verdict on a model folder before any of it is loaded; nothing in it runs."""

from __future__ import annotations

from pathlib import Path

from engine.checkpoint.adapted import family_of
from engine.checkpoint.adapted.tensors import native_tensors
from engine.checkpoint.code import refuse_kernels
from engine.checkpoint.config import read_config
from engine.checkpoint.consistency import check_consistency
from engine.checkpoint.files import read_json
from engine.checkpoint.gates import (
    list_folder,
    refuse_own_weights_file,
    remarks,
    require_library,
    require_native,
    require_weights,
)
from engine.checkpoint.tensors import read_tensors
from engine.checkpoint.verdict import Verdict


def inspect_folder(folder: Path) -> Verdict:
    """Judge a model folder.

    Raises:
        NotACheckpoint: there is no config.json, or nothing that holds weights.
        UnsafeCheckpoint: its weights are pickles, or it needs code of its own.
        DamagedCheckpoint: files are missing, malformed, contradictory, or lead out of the folder.
        UnsupportedModel: it is sound, and nothing installed runs it.
    """
    names = list_folder(folder)
    config = read_json(folder, "config.json")
    refuse_kernels(config)
    own_class = require_native(folder, config)
    require_weights(folder, names)
    refuse_own_weights_file(folder, config)
    model = read_config(folder)
    require_library(model)
    tensors = read_tensors(folder)
    family = family_of(config)
    if family is not None:
        tensors = native_tensors(tensors, family.layout, model)
    check_consistency(model, tensors)
    return Verdict(
        folder=folder,
        config=model,
        tensors=tensors,
        native_class=own_class,
        warnings=remarks(folder, names, model),
        is_renamed=family is not None and family.layout.is_renamed,
    )
