"""docs/cli.md names every sub-command, flag and key."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui import cli

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
PARSERS = {"": cli.CHAT, **cli.VERBS}


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from flags_of(below)


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_command_has_a_section(name: str) -> None:
    assert f"\n## vramble {name}\n" in DOCS


@pytest.mark.parametrize("name", PARSERS)
def test_every_flag_is_named(name: str) -> None:
    parser = cli.parser_of(PARSERS[name], f"vramble {name}".strip())
    missing = [flag for flag in flags_of(parser) if flag != "-h" and not re.search(rf"{flag}(?![\w-])", DOCS)]
    assert not missing


def test_no_command_is_described_that_does_not_exist() -> None:
    sections = re.findall(r"^## vramble (\w+)$", DOCS, flags=re.MULTILINE)
    assert set(sections) == set(cli.VERBS)
