"""What the engine's sentences tell a person to type exists in this version."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui.cli import CHAT, VERBS, parser_of
from tui.commands import BY_SLASH

ENGINE = Path(__file__).parents[2] / "engine"
FILES = [file for file in ENGINE.rglob("*.py") if "guide" not in file.parts]


def sentences(file: Path) -> Iterator[str]:
    """Every string of a module that is no docstring."""
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def told(pattern: str) -> set[str]:
    return {word for file in FILES for text in sentences(file) for word in re.findall(pattern, text)}


def flags() -> set[str]:
    parsers = [parser_of(verb, "vramble") for verb in (CHAT, *VERBS.values())]
    return {flag for parser in parsers for action in parser._actions for flag in action.option_strings}


def test_verbs_exist() -> None:
    verbs = told(r"`vramble ([a-z]+)")
    assert verbs
    assert verbs <= set(VERBS)


def test_slash_commands_exist() -> None:
    commands = told(r"(?:Give |\()/([a-z]+)")
    assert {"load", "context"} <= commands <= set(BY_SLASH)


@pytest.mark.parametrize("own", [("--fd", "--parent", "--log", "--cache")])
def test_flags_exist(own: tuple[str, ...]) -> None:
    found = told(r"(--[a-z][a-z-]+)") - set(own) - {"--model"}  # of modelscope's own command
    assert {"--ram", "--disk", "--gpu"} <= found <= flags()
