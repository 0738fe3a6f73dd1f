"""A device_map that the person wrote, from a JSON file."""

from __future__ import annotations

import json
from pathlib import Path

from tui.verbs.usage import WrongUsage

_LONGEST = 16 << 20
_EXAMPLE = 'Write it like {"model.embed_tokens": 0, "model.layers.0": 0, "lm_head": "cpu"}.'


def read_device_map(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, device) pairs in the file's order; GPUs are numbers, the rest are words.

    Raises:
        WrongUsage: the file cannot be read, or is no such map.
    """
    found = _parsed(path)
    if not isinstance(found, dict) or not found:
        raise WrongUsage(f"--strategy: {path} holds no device_map.", _EXAMPLE)
    return tuple((name, _device(name, device)) for name, device in found.items())


def _parsed(path: Path) -> object:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise WrongUsage(f"--strategy: {path} is longer than 16 MiB.", _EXAMPLE)
        return json.loads(content, object_pairs_hook=_without_doubles)
    except OSError as error:
        message = f"--strategy: {path} cannot be read: {error.strerror}."
        raise WrongUsage(message, "Give auto, balanced, sequential, or a device_map's JSON file.") from error
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"--strategy: {path} is no JSON: {error}.", _EXAMPLE) from error


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise WrongUsage(f"--strategy: the device_map names {name!r} twice.", "Keep one of them.")
        found[name] = value
    return found


def _device(name: str, device: object) -> str:
    if isinstance(device, bool) or not isinstance(device, int | str):
        message = f"--strategy: the device of {name!r} is neither a number nor a word."
        raise WrongUsage(message, _EXAMPLE)
    return str(device)
