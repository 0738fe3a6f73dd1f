"""A close look at a model folder: every question is answered, also where an earlier one refused it."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.checkpoint.code import find_code, named, refuse_kernels
from engine.checkpoint.complete import completeness
from engine.checkpoint.config import read_config
from engine.checkpoint.consistency import check_consistency
from engine.checkpoint.files import contained, read_json, shown
from engine.checkpoint.gates import (
    list_folder,
    refuse_own_weights_file,
    require_library,
    require_native,
    require_weights,
)
from engine.checkpoint.numbers import sample_numbers
from engine.checkpoint.quantizers import is_unpacked
from engine.checkpoint.templates import chat_template, try_template
from engine.checkpoint.tensors import StoredTensor, read_tensors
from engine.errors import CheckpointError
from engine.values import Value

_MOST_NAMED = 3
_LOADED = (".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken")


class CheckStatus(enum.StrEnum):
    """How an answer is: nothing wrong, something to know, something that forbids loading."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(Value, frozen=True, kw_only=True):
    """One question about a folder.

    Attributes:
        name: what was looked at.
        status: how it is.
        found: one sentence (hostile names in it are printable).
        hint: the next step; empty when there is nothing to do.
    """

    name: str
    status: CheckStatus
    found: str
    hint: str = ""


def examine(folder: Path) -> tuple[Check, ...]:
    """Look at everything that can be told of a model folder without loading it; nothing of it runs here.

    The chat template, which is code, is rendered in a process of its own with limits.

    Raises:
        NotACheckpoint: there is no config.json.
        UnsafeCheckpoint: there are pickles alone, without one.
        UnsupportedModel: there is another format alone, without one.
    """
    list_folder(folder)
    return tuple(check for name, look in _QUESTIONS for check in _answers(name, look, folder))


def _answers(name: str, look: Callable[[Path], Iterator[Check]], folder: Path) -> Iterator[Check]:
    try:
        yield from look(folder)
    except CheckpointError as error:
        yield Check(name=name, status=CheckStatus.FAIL, found=error.message, hint=error.hint)
    except OSError as error:
        found = f"It cannot be read: {error.strerror or type(error).__name__}."
        yield Check(name=name, status=CheckStatus.FAIL, found=found)


def _ok(name: str, found: str) -> Check:
    return Check(name=name, status=CheckStatus.OK, found=found)


def _warn(name: str, found: str, hint: str = "") -> Check:
    return Check(name=name, status=CheckStatus.WARN, found=found, hint=hint)


def _fail(name: str, found: str, hint: str = "") -> Check:
    return Check(name=name, status=CheckStatus.FAIL, found=found, hint=hint)


def _class(folder: Path) -> Iterator[Check]:
    config = read_json(folder, "config.json")
    refuse_kernels(config)
    yield _ok("class", f"transformers' own {shown(require_native(folder, config))} runs it.")


def _format(folder: Path) -> Iterator[Check]:
    names = list_folder(folder)
    require_weights(folder, names)
    refuse_own_weights_file(folder, read_json(folder, "config.json"))
    model = read_config(folder)
    require_library(model)
    if is_unpacked(model.quantization):
        found = f"Safetensors in {shown(model.quantization)}, which loading unpacks; the plan counts that."
        yield _warn("format", found)
    else:
        how = shown(model.quantization or model.dtype or "a dtype that config.json leaves open")
        yield _ok("format", f"Safetensors in {how}.")


def _code(folder: Path) -> Iterator[Check]:
    if found := find_code(folder):
        yield _warn("code", f"It brings code, which is not run: {named(found)}.")
    else:
        yield _ok("code", "It brings none.")


def _paths(folder: Path) -> Iterator[Check]:
    """Every file that a loader may open lies in the folder, or where its hub's cache keeps it."""
    names = [name for name in sorted(os.listdir(folder)) if name.endswith(_LOADED)]
    for name in names:
        contained(folder, name)
    yield _ok("paths", f"All {len(names)} files that loading may open lie where they belong.")


def _headers(folder: Path) -> Iterator[Check]:
    tensors = read_tensors(folder)
    check_consistency(read_config(folder), tensors)
    files = len({tensor.file for tensor in tensors})
    where = "one file" if files == 1 else f"{files} files"
    yield _ok("headers", f"{len(tensors):,} tensors in {where}; sizes, offsets and layers agree.")


def _tensors(folder: Path) -> Iterator[Check]:
    model, tensors = read_config(folder), read_tensors(folder)
    found = completeness(read_json(folder, "config.json"), model, tensors)
    if found is None:
        told = "Nothing here knows the names that this family stores; loading tells whether one is missing."
        yield _ok("tensors", told)
        return
    weights = [name for name in found.missing if name.endswith(".weight")]
    if weights:
        yield _fail("tensors", f"Missing: {_some(weights)}.", "Get the model again.")
    if found.reshaped:
        told = f"Of another shape than is usual for config.json: {_some(found.reshaped)}."
        yield _warn("tensors", told)
    if found.extra:
        told = f"Not of this family, and not loaded: {_some(found.extra)}."
        yield _warn("tensors", told)
    if not (weights or found.reshaped or found.extra):
        yield _ok("tensors", "None is missing, and none is too many.")


def _numbers(folder: Path) -> Iterator[Check]:
    tensors: tuple[StoredTensor, ...] = read_tensors(folder)
    sample = sample_numbers(tensors)
    if sample.broken:
        found = f"There is NaN or infinity in {_some(sample.broken)}."
        yield _fail("numbers", found, "Get the model again, or from another place.")
    elif sample.is_empty:
        yield _warn("numbers", "Every number that was looked at is zero: the files look like holes.")
    else:
        yield _ok("numbers", f"{sample.elements:,} were looked at; all are finite.")


def _template(folder: Path) -> Iterator[Check]:
    template = chat_template(folder)
    if not template:
        yield _warn("template", "It has no chat template: a plain User/Assistant transcript stands in.")
        return
    trial = try_template(folder, template)
    if trial.problem:
        told = f"The chat template is broken: {trial.problem}."
        yield _fail("template", told, "Get the model from another place.")
    elif not trial.takes_system:
        yield _warn("template", "It refuses a system prompt, which is put before the first message.")
    else:
        yield _ok("template", "It renders a conversation, with and without a system prompt.")


def _some(names: tuple[str, ...] | list[str]) -> str:
    rest = len(names) - _MOST_NAMED
    phrase = ", ".join(shown(name) for name in names[:_MOST_NAMED])
    return f"{phrase} and {rest} more" if rest > 0 else phrase


_QUESTIONS: tuple[tuple[str, Callable[[Path], Iterator[Check]]], ...] = (
    ("class", _class),
    ("format", _format),
    ("code", _code),
    ("paths", _paths),
    ("headers", _headers),
    ("tensors", _tensors),
    ("numbers", _numbers),
    ("template", _template),
)
