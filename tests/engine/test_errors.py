from __future__ import annotations

import re

import pytest

from engine import errors
from engine.errors import EngineError, OutOfMemory

TREE = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EngineError)]


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"^[│├└─ ]*(\w+)(?:  |$)", errors.__doc__ or "", re.MULTILINE)
    assert set(drawn) >= {kind.__name__ for kind in TREE}


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_carries_a_sentence_and_a_hint(kind: type[EngineError]) -> None:
    error = kind("It went wrong.", "Do this.")
    assert (error.message, error.hint, str(error)) == (
        "It went wrong.",
        "Do this.",
        "It went wrong. Do this.",
    )


def test_an_error_without_a_hint_reads_as_its_sentence() -> None:
    assert str(OutOfMemory("It is full.")) == "It is full."
