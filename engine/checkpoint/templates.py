"""A folder's chat template, and whether it can be trusted with a conversation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from engine.checkpoint.files import JsonObject, contained, open_plain, read_optional_json, shown
from engine.checkpoint.template_trial import CPU_SECONDS, MEMORY_BYTES
from engine.errors import DamagedCheckpoint
from engine.packages import environment_for_modules

_LONGEST_TEMPLATE = 1 << 20
_WALL_SECONDS = 30.0
"""For starting the process, and what it may take."""
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


class TemplateTrial(NamedTuple):
    """How a template fared.

    Attributes:
        problem: what is wrong with it (hostile); empty when nothing is.
        takes_system: it has a place for a system prompt.
    """

    problem: str
    takes_system: bool


def chat_template(folder: Path) -> str:
    """The template that transformers would take; empty where there is none.

    Raises:
        DamagedCheckpoint: a file is malformed, leads out, or is longer than any template.
    """
    if os.path.lexists(folder / "chat_template.jinja"):
        with open_plain(contained(folder, "chat_template.jinja")) as file:
            return _checked(file.read(_LONGEST_TEMPLATE + 1).decode("utf-8", "replace"))
    for name in ("chat_template.json", "tokenizer_config.json"):
        if said := _default(read_optional_json(folder, name).get("chat_template")):
            return _checked(said)
    return ""


def _default(said: object) -> str:
    """One template, or the one called default of several."""
    if isinstance(said, list):
        named = [item for item in said if isinstance(item, dict)]
        said = next((item.get("template") for item in named if item.get("name") == "default"), None)
    return said if isinstance(said, str) else ""


def _checked(template: str) -> str:
    if len(template) > _LONGEST_TEMPLATE:
        message = "The chat template is longer than 1 MiB."
        raise DamagedCheckpoint(message, "Get the model from a place that you trust.")
    return template


def try_template(folder: Path, template: str) -> TemplateTrial:
    """Render a short conversation in a process of its own, which may be killed for what it takes.

    Raises:
        DamagedCheckpoint: tokenizer_config.json is malformed.
    """
    given = {"template": template, "tokens": _tokens(read_optional_json(folder, "tokenizer_config.json"))}
    command = [sys.executable, "-P", "-m", "engine.checkpoint.template_trial"]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=_WALL_SECONDS,
            check=False,
            env=environment_for_modules() | _OFFLINE,
        )
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        limits = f"{CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB"
        return TemplateTrial(f"it takes more than {limits} for three short messages", takes_system=False)
    return TemplateTrial(shown(found["problem"], 200), bool(found["takes_system"]))


def _tokens(config: JsonObject) -> dict[str, str]:
    """The special tokens that templates write."""
    tokens = {}
    for name in _TOKENS:
        said = config.get(name)
        content = said.get("content") if isinstance(said, dict) else said
        tokens[name] = content if isinstance(content, str) else ""
    return tokens
