"""What a folder must be before it is loaded, one question a function; each refuses with its cause."""

from __future__ import annotations

import os
from pathlib import Path

from engine.checkpoint.adapted import family_of, refusal
from engine.checkpoint.adapter import ADAPTER_CONFIG, read_adapter
from engine.checkpoint.code import find_code, named
from engine.checkpoint.config import ModelConfig
from engine.checkpoint.fields import Fields
from engine.checkpoint.files import DOWNLOAD_AGAIN, JsonObject, contained, open_plain, read_json, shown
from engine.checkpoint.native import native_class
from engine.checkpoint.own_code import own_classes
from engine.checkpoint.pickles import CONVERT, is_pickle_name, refuse_pickle
from engine.checkpoint.quantizers import obstacle
from engine.checkpoint.tensors import INDEX_FILE, SINGLE_FILE
from engine.errors import NeedsConsent, NotACheckpoint, UnsafeCheckpoint, UnsupportedModel

_OTHER_FORMATS = (".gguf", ".ggml", ".onnx", ".h5", ".msgpack", ".mlpackage")
_OTHER_HINT = (
    "Get the same model as safetensors from its hub, and load it with nf4 or int8 to make it as small."
)
_FOLDER_HINT = "Give the folder that holds config.json and the safetensors."
_CONSENT_HINT = "The list of models (Ctrl+O) shows it before it runs; --trust-remote-code runs it unread."
_NATIVE_HINT = (
    "None of that code says how to write text with it. Choose a model that transformers knows itself."
)


def list_folder(folder: Path) -> list[str]:
    """The names in a folder that has a config.json, sorted.

    Raises:
        NotACheckpoint: it is no such folder.
        UnsafeCheckpoint: it holds pickles only.
        UnsupportedModel: it holds another format only.
    """
    try:
        names = sorted(os.listdir(folder))
    except NotADirectoryError as error:
        if folder.name.lower().endswith(_OTHER_FORMATS):
            message = f"{shown(folder.name)} is no safetensors, which is what vramble reads."
            raise UnsupportedModel(message, _OTHER_HINT) from error
        raise NotACheckpoint(f"{shown(folder)} is a file, not a model folder.", _FOLDER_HINT) from error
    except OSError as error:
        raise NotACheckpoint(f"{shown(folder)} cannot be opened: {error.strerror}.", _FOLDER_HINT) from error
    if "config.json" in names:
        return names
    if "model_index.json" in names:
        raise NotACheckpoint(f"{shown(folder.name)} holds a pipeline for pictures.", _FOLDER_HINT)
    refuse_other_formats(folder, names)
    raise NotACheckpoint(f"{shown(folder)} has no config.json, so it is no model folder.", _FOLDER_HINT)


def require_native(folder: Path, config: JsonObject) -> str:
    """Transformers' own class that runs the checkpoint.

    Raises:
        NeedsConsent: only the repository's own code would.
        UnsafeCheckpoint: it would have to run code that cannot be loaded by its name.
        UnsupportedModel: nothing installed would.
    """
    if family := family_of(config):
        return family.native_class
    model_type = str(config.get("model_type") or "")
    architecture = next(iter(Fields(config).strings("architectures")), "")
    own_class = native_class(model_type, architecture)
    if own_class:
        return own_class
    reason = refusal(config)
    if code := find_code(folder):
        message = f"{shown(folder.name)} would have to run its own code: {named(code)}. {reason}".rstrip()
        if own_classes(folder):
            raise NeedsConsent(message, _CONSENT_HINT)
        raise UnsafeCheckpoint(message, _NATIVE_HINT)
    if reason:
        raise UnsupportedModel(reason, _NATIVE_HINT)
    wanted = shown(architecture or model_type or "an architecture that it does not name")
    message = f"{shown(folder.name)} needs {wanted}, which writes no text or is unknown here."
    raise UnsupportedModel(message, "Choose another model, or update transformers.")


def has_weights(names: list[str]) -> bool:
    """Safetensors are there, under the names that loaders look for."""
    return SINGLE_FILE in names or INDEX_FILE in names


def require_weights(folder: Path, names: list[str]) -> None:
    """Refuse a folder without safetensors, by what it holds in their place.

    Raises:
        NotACheckpoint: nothing.
        UnsafeCheckpoint: pickles.
        UnsupportedModel: another format.
    """
    if has_weights(names):
        return
    refuse_other_formats(folder, names)
    for name in names:
        if name.endswith(".safetensors"):
            with open_plain(contained(folder, name)) as file:
                refuse_pickle(file.read(64), name)
    message = f"{shown(folder.name)} holds no weights: neither {SINGLE_FILE} nor {INDEX_FILE} is there."
    raise NotACheckpoint(message, DOWNLOAD_AGAIN)


def refuse_other_formats(folder: Path, names: list[str]) -> None:
    """Refuse adapters, GGUF and the like, and pickles.

    Raises:
        UnsafeCheckpoint: pickles.
        UnsupportedModel: an adapter or another format.
    """
    pickles = tuple(name for name in names if is_pickle_name(name))
    others = tuple(name for name in names if name.lower().endswith(_OTHER_FORMATS))
    if ADAPTER_CONFIG in names:
        raise read_adapter(folder).refusal(folder.name)
    if others:
        message = f"{shown(folder.name)} holds {named(others)}, and vramble reads safetensors."
        raise UnsupportedModel(message, _OTHER_HINT)
    if pickles:
        message = f"{shown(folder.name)} has only pickles ({named(pickles)}): opening one could run any code."
        raise UnsafeCheckpoint(message, CONVERT)


def refuse_own_weights_file(folder: Path, config: JsonObject) -> None:
    """Refuse a config that names the file its weights are read from.

    Raises:
        UnsupportedModel: it does.
    """
    if config.get("transformers_weights"):
        message = f"config.json of {shown(folder.name)} chooses its own weights file."
        raise UnsupportedModel(message, "Remove transformers_weights from config.json.")


def require_library(model: ModelConfig) -> None:
    """Refuse a quantization whose library, or whose GPU, is not here.

    Raises:
        UnsupportedModel: it is not.
    """
    found = obstacle(model.quantization) if model.quantization else None
    if found:
        message = f"Its weights are stored with {shown(model.quantization)}, which needs {found.lack}."
        raise UnsupportedModel(message, found.hint)


def remarks(
    folder: Path, names: list[str], model: ModelConfig, *, runs_code: bool = False
) -> tuple[str, ...]:
    """What refuses nothing and the person should know all the same."""
    code = find_code(folder)
    ignored = tuple(name for name in names if is_pickle_name(name))
    family = family_of(read_json(folder, "config.json"))
    pairs = (
        (family, f"{family.title} runs as {family.native_class}." if family else ""),
        (code and not runs_code, f"It brings code, which is not run: {named(code)}."),
        (ADAPTER_CONFIG in names, "An adapter lies beside the model, and is not applied."),
        (runs_code, f"It runs code of its own, as was agreed to: {named(code)}."),
        (ignored, f"It brings pickles, which are not opened: {named(ignored)}."),
        (not model.has_chat_template, "It has no chat template; it may only continue text."),
        (not model.eos_token_ids, "It names no token that ends a reply; replies end at their limit."),
    )
    return tuple(sentence for condition, sentence in pairs if condition)
