from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

import sessions
from sessions import SessionError, errors, values
from sessions.text import as_title, storable
from tests.sessions.child import ROOT


def test_the_front_door_needs_the_standard_library_only() -> None:
    script = "import sys, sessions; print('\\n'.join({name.split('.')[0] for name in sys.modules}))"
    found = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {script}"],
        capture_output=True,
        text=True,
        check=True,
    )
    unknown = set(found.stdout.split()) - set(sys.stdlib_module_names) - {"sessions", "__main__"}
    assert {name for name in unknown if not name.startswith(("_", "sitecustomize"))} == set()


def test_every_error_is_exported_and_drawn_in_the_tree() -> None:
    tree = errors.__doc__ or ""
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    named = [found for found in classes if issubclass(found, SessionError)]
    assert len(named) == 14
    for found in named:
        assert found.__name__ in sessions.__all__
        assert found.__name__ in tree


def test_every_exported_name_exists() -> None:
    assert all(hasattr(sessions, name) for name in sessions.__all__)


def test_values_are_frozen_and_every_field_is_described() -> None:
    classes = [found for found in vars(values).values() if is_dataclass(found)]
    assert len(classes) == 7
    for found in classes:
        for field in fields(found):
            assert f"{field.name}:" in (found.__doc__ or "")
    with pytest.raises(FrozenInstanceError):
        values.Holder().pid = 1  # type: ignore[misc]  # it must not work


@pytest.mark.parametrize(
    ("text", "title"),
    [("", ""), (" a\n\tb ", "a b"), ("x" * 81, "x" * 79 + "…"), ("显" * 80, "显" * 80)],
)
def test_a_title_is_one_short_line(text: str, title: str) -> None:
    assert as_title(text) == title


def test_storable_text_keeps_all_that_can_be_kept() -> None:
    assert storable("日本語 🙂 \x1b\ufffe") == "日本語 🙂 \x1b\ufffe"
    assert storable("\ud83d\0") == "\ufffd\ufffd"
