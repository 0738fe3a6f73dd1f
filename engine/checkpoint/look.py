"""The look at a model folder that a plan needs: more lenient than the gate before a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from engine.checkpoint.adapted import family_of, native_config
from engine.checkpoint.adapted.tensors import native_tensors
from engine.checkpoint.adapter import refuse_adapter_beside_model
from engine.checkpoint.code import refuse_kernels
from engine.checkpoint.config import ModelConfig, read_config
from engine.checkpoint.consistency import check_consistency
from engine.checkpoint.files import JsonObject, read_json, shown
from engine.checkpoint.gates import (
    has_weights,
    list_folder,
    refuse_other_formats,
    refuse_own_weights_file,
    remarks,
    require_library,
    require_native,
)
from engine.checkpoint.lora import with_adapter
from engine.checkpoint.native import native_class
from engine.checkpoint.shapes import is_known_packing, tensors_of
from engine.checkpoint.tensors import StoredTensor, read_tensors
from engine.checkpoint.verdict import Verdict
from engine.errors import CheckpointError, DamagedCheckpoint

_NOT_LOADABLE = "It can be planned, and not loaded as it is: "
_CONFIG_ALONE = "The plan comes from config.json alone."
_NO_WEIGHTS = f"Its weights are not in the folder. {_CONFIG_ALONE}"


def look_at(folder: Path, adapter: Path | None = None) -> Verdict:
    """Look at a model folder for a plan; what would refuse a load becomes a warning.

    Without weights in the folder, the tensors are those that a checkpoint of its family stores; none
    where the family is unknown.

    Args:
        folder: of the model.
        adapter: folder of the one that is merged into it; refused as before a load.

    Raises:
        NotACheckpoint: there is no config.json.
        DamagedCheckpoint: it says what cannot be, or weights that are there are damaged.
        UnsafeCheckpoint: a file of weights holds a pickle under another name.
        UnsupportedModel: the folder holds another format and no config.json.
    """
    names = list_folder(folder)
    config = read_json(folder, "config.json")
    model = read_config(folder)
    tensors, is_on_disk, sentences = _tensors(folder, names, config, model)
    manners = remarks(folder, names, model) if is_on_disk else ()
    verdict = Verdict(
        folder=folder,
        config=model,
        tensors=tensors,
        native_class=native_class(model.model_type, model.architecture),
        warnings=(*sentences, *_obstacles(folder, names, config, model), *manners),
        is_on_disk=is_on_disk,
        is_renamed=is_on_disk and (family := family_of(config)) is not None and family.layout.is_renamed,
    )
    return verdict if adapter is None else with_adapter(verdict, adapter)


def _tensors(
    folder: Path, names: list[str], config: JsonObject, model: ModelConfig
) -> tuple[tuple[StoredTensor, ...], bool, tuple[str, ...]]:
    """The tensors, whether they were read from headers, and what to say of that."""
    native, family = native_config(config), family_of(config)
    if not has_weights(names):
        derived = tensors_of(native, model)
        return derived, False, (_NO_WEIGHTS, *_doubts(derived, model))
    try:
        tensors = read_tensors(folder)
        if family is not None:
            tensors = native_tensors(tensors, family.layout, model)
        check_consistency(model, tensors)
    except DamagedCheckpoint as error:
        if derived := tensors_of(native, model):
            return derived, False, (f"{error.message} {_CONFIG_ALONE}", *_doubts(derived, model))
        raise
    return tensors, True, ()


def _doubts(derived: tuple[StoredTensor, ...], model: ModelConfig) -> tuple[str, ...]:
    """What config.json alone leaves open."""
    family = shown(model.model_type or "this model")
    is_native = bool(native_class(model.model_type, model.architecture))
    pairs = (
        (not derived and is_native, f"Only a dry run of its own class can tell the shapes of {family}."),
        (
            not derived and not is_native,
            f"Nothing here knows the shapes of {family}; its weights would tell.",
        ),
        (derived and not model.dtype, "config.json does not say the dtype; 4 bytes a weight are assumed."),
        (
            derived and model.quantization and not is_known_packing(model.quantization),
            f"It is stored with {shown(model.quantization)}; its weights are counted unpacked.",
        ),
    )
    return tuple(sentence for condition, sentence in pairs if condition)


def _obstacles(folder: Path, names: list[str], config: JsonObject, model: ModelConfig) -> Iterator[str]:
    """What the gate before a load would refuse, as sentences."""
    gates: tuple[Callable[[], object], ...] = (
        lambda: refuse_kernels(config),
        lambda: require_native(folder, config),
        lambda: None if has_weights(names) else refuse_other_formats(folder, names),
        lambda: refuse_own_weights_file(folder, config),
        lambda: refuse_adapter_beside_model(folder),
        lambda: require_library(model),
    )
    for gate in gates:
        try:
            gate()
        except CheckpointError as error:
            yield _NOT_LOADABLE + error.message
