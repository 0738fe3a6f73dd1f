"""The verdict on a model folder before any of it is loaded; nothing in it runs."""

from __future__ import annotations

import os
from pathlib import Path

from engine.checkpoint.code import find_code, named, refuse_kernels
from engine.checkpoint.config import ModelConfig, read_config
from engine.checkpoint.consistency import check_consistency
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import DOWNLOAD_AGAIN, contained, open_plain, read_json, shown
from engine.checkpoint.native import missing_library, native_class
from engine.checkpoint.pickles import CONVERT, is_pickle_name, refuse_pickle
from engine.checkpoint.tensors import INDEX_FILE, SINGLE_FILE, StoredTensor, read_tensors
from engine.errors import NotACheckpoint, UnsafeCheckpoint, UnsupportedModel
from engine.values import Value

_OTHER_FORMATS = (".gguf", ".ggml", ".onnx", ".h5", ".msgpack", ".mlpackage")
_FOLDER_HINT = "Give the folder that holds config.json and the safetensors."
_NATIVE_HINT = "vramble runs no code from a repository. Choose a model that transformers knows itself."


class Verdict(Value, frozen=True, kw_only=True):
    """What a sound folder says; an unsound one raises instead.

    Attributes:
        folder: the model's folder.
        config: of the language model.
        tensors: every tensor as stored.
        native_class: transformers' own class that runs it.
        warnings: what the person should know before loading.
    """

    folder: Path
    config: ModelConfig
    tensors: tuple[StoredTensor, ...]
    native_class: str
    warnings: tuple[str, ...] = ()

    @property
    def weight_bytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Distinct parameters; a tied head that is stored as well counts once."""
        return sum(_parameters(tensor, self.config) for tensor in self.tensors)

    @property
    def dtype(self) -> str:
        """The dtype that most bytes are stored in, by safetensors' name; empty without tensors."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
        return max(sizes, key=lambda dtype: sizes[dtype], default="")


def _parameters(tensor: StoredTensor, config: ModelConfig) -> int:
    if config.is_tied and tensor.name.endswith(("lm_head.weight", "embed_out.weight")):
        return 0
    is_packed = tensor.dtype in {"I32", "U8", "I8"} and config.quantization_bits
    return tensor.bytes * 8 // config.quantization_bits if is_packed else tensor.elements


def inspect_folder(folder: Path) -> Verdict:
    """Judge a model folder.

    Raises:
        NotACheckpoint: there is no config.json, or nothing that holds weights.
        UnsafeCheckpoint: its weights are pickles, or it needs code of its own.
        DamagedCheckpoint: files are missing, malformed, contradictory, or lead out of the folder.
        UnsupportedModel: it is sound, and nothing installed runs it.
    """
    names = _list(folder)
    config = read_json(folder, "config.json")
    refuse_kernels(config)
    own_class = _require_native(folder, Fields(config))
    _require_weights(folder, names)
    if config.get("transformers_weights"):
        message = f"config.json of {shown(folder.name)} chooses its own weights file."
        raise UnsupportedModel(message, "Remove transformers_weights from config.json.")
    model = read_config(folder)
    _require_library(model)
    tensors = read_tensors(folder)
    check_consistency(model, tensors)
    warnings = _warnings(folder, names, model)
    return Verdict(folder=folder, config=model, tensors=tensors, native_class=own_class, warnings=warnings)


def _list(folder: Path) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except NotADirectoryError as error:
        raise NotACheckpoint(f"{shown(folder)} is a file, not a model folder.", _FOLDER_HINT) from error
    except OSError as error:
        raise NotACheckpoint(f"{shown(folder)} cannot be opened: {error.strerror}.", _FOLDER_HINT) from error
    if "config.json" in names:
        return names
    if "model_index.json" in names:
        raise NotACheckpoint(f"{shown(folder.name)} holds a pipeline for pictures.", _FOLDER_HINT)
    _refuse_other_formats(folder, names)
    raise NotACheckpoint(f"{shown(folder)} has no config.json, so it is no model folder.", _FOLDER_HINT)


def _require_native(folder: Path, fields: Fields) -> str:
    model_type = str(fields.outer.get("model_type") or "")
    architecture = next(iter(Fields(fields.outer).strings("architectures")), "")
    own_class = native_class(model_type, architecture)
    if own_class:
        return own_class
    if code := find_code(folder):
        message = f"{shown(folder.name)} would have to run its own code: {named(code)}."
        raise UnsafeCheckpoint(message, _NATIVE_HINT)
    wanted = shown(architecture or model_type or "an architecture that it does not name")
    message = f"{shown(folder.name)} needs {wanted}, which writes no text or is unknown here."
    raise UnsupportedModel(message, "Choose another model, or update transformers.")


def _require_weights(folder: Path, names: list[str]) -> None:
    if SINGLE_FILE in names or INDEX_FILE in names:
        return
    _refuse_other_formats(folder, names)
    for name in names:
        if name.endswith(".safetensors"):
            with open_plain(contained(folder, name)) as file:
                refuse_pickle(file.read(64), name)
    message = f"{shown(folder.name)} holds no weights: neither {SINGLE_FILE} nor {INDEX_FILE} is there."
    raise NotACheckpoint(message, DOWNLOAD_AGAIN)


def _refuse_other_formats(folder: Path, names: list[str]) -> None:
    pickles = tuple(name for name in names if is_pickle_name(name))
    others = tuple(name for name in names if name.lower().endswith(_OTHER_FORMATS))
    if "adapter_config.json" in names:
        message = f"{shown(folder.name)} is an adapter for another model, not a model."
        raise UnsupportedModel(message, "Merge it into its base model, and load that.")
    if others:
        message = f"{shown(folder.name)} holds {named(others)}, and vramble reads safetensors."
        raise UnsupportedModel(message, "Get the same model as safetensors from its hub.")
    if pickles:
        message = f"{shown(folder.name)} has only pickles ({named(pickles)}): opening one could run any code."
        raise UnsafeCheckpoint(message, CONVERT)


def _require_library(model: ModelConfig) -> None:
    library = missing_library(model.quantization) if model.quantization else None
    if library:
        message = f"Its weights are stored with {shown(model.quantization)}, which needs {shown(library)}."
        raise UnsupportedModel(message, "Get the unquantized model and load it with nf4 or int8.")


def _warnings(folder: Path, names: list[str], model: ModelConfig) -> tuple[str, ...]:
    code = find_code(folder)
    ignored = tuple(name for name in names if is_pickle_name(name))
    pairs = (
        (code, f"It brings code, which is not run: {named(code)}."),
        (ignored, f"It brings pickles, which are not opened: {named(ignored)}."),
        (not model.has_chat_template, "It has no chat template; it may only continue text."),
        (not model.eos_token_ids, "It names no token that ends a reply; replies end at their limit."),
    )
    return tuple(sentence for condition, sentence in pairs if condition)
