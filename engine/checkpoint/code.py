"""Code that a repository brings or asks for; found by reading names, never by importing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.checkpoint.files import JsonObject, read_optional_json, shown
from engine.errors import UnsafeCheckpoint

_CONFIGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "configuration.json",
)
_IMPLEMENTATION_KEYS = ("attn_implementation", "experts_implementation", "kernel_config", "use_kernels")
_MODELSCOPE_KEYS = ("plugins", "allow_remote")
_INSTALLED = ("requirements.txt", "setup.py", "pyproject.toml")
_MOST_SHOWN = 6


def find_code(folder: Path) -> tuple[str, ...]:
    """Files of code that the folder holds or whose loading its configs ask for, sorted.

    Raises:
        DamagedCheckpoint: a config is malformed.
    """
    found = {name for name in os.listdir(folder) if name.endswith(".py") or name in _INSTALLED}
    if (folder / "custom_generate").is_dir():
        found.add("custom_generate/generate.py")
    for name in _CONFIGS:
        found.update(_asked_for(read_optional_json(folder, name), name))
    return tuple(sorted(found))


def _asked_for(config: JsonObject, name: str) -> Iterator[str]:
    for key, value in _walk(config):
        if key == "auto_map":
            yield from (_module_file(reference) for reference in _strings(value))
        elif key == "custom_generate" and value:
            yield from (f"{shown(text)}/custom_generate/generate.py" for text in _strings(value))
        elif key in _MODELSCOPE_KEYS and value:
            yield f"{name} ({key})"


def _module_file(reference: str) -> str:
    """`a/b--modeling_x.Y` is class Y in modeling_x.py of the repository a/b."""
    repository, _, dotted = reference.rpartition("--")
    file = dotted.rpartition(".")[0].replace(".", "/") + ".py"
    return shown(f"{repository}/{file}" if repository else file)


def _walk(value: object) -> Iterator[tuple[str, object]]:
    """Every key with its value, at any depth, without recursion."""
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield from here.items()
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)


def _strings(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            yield here
        elif isinstance(here, dict):
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)


def refuse_kernels(config: JsonObject) -> None:
    """Refuse a config that names an attention kernel to be fetched and run.

    Raises:
        UnsafeCheckpoint: it does.
    """
    for key, value in _walk(config):
        if key.removeprefix("_").removesuffix("_internal") in _IMPLEMENTATION_KEYS:
            for name in _strings(value):
                if "/" in name:
                    message = f"config.json asks for the kernel {shown(name)}, which is code from a hub."
                    raise UnsafeCheckpoint(message, f"Remove {shown(key)} from config.json.")


def named(files: tuple[str, ...]) -> str:
    """The files' names as one phrase, cut after a few."""
    rest = len(files) - _MOST_SHOWN
    phrase = ", ".join(shown(file) for file in files[:_MOST_SHOWN])
    return f"{phrase} and {rest} more" if rest > 0 else phrase
