"""The guide's training text: facts with several phrasings each, some of which are held out as the test."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = Path(__file__).parent / "text"
PHRASINGS = TEXT / "phrasings"
LANGUAGES = ("en", "zh")
HELD_OUT_PHRASINGS = 2
HELD_OUT_UNKNOWN = 40


@dataclass(frozen=True)
class Fact:
    """One thing the guide knows, in one language.

    Attributes:
        name: the same in every language.
        language: "en" or "zh".
        ask: phrasings it is trained on.
        held_out: phrasings it never sees.
        answer: what it should say.
        more: what it should say when asked for more; empty where there is no more.
        holds: strings that a right answer contains; "a|b" takes either.
    """

    name: str
    language: str
    ask: tuple[str, ...]
    held_out: tuple[str, ...]
    answer: str
    more: str
    holds: tuple[str, ...]

    def is_held_by(self, answer: str) -> bool:
        """Whether an answer contains this fact, whatever its case."""
        folded = answer.casefold()
        return all(any(part in folded for part in held.casefold().split("|")) for held in self.holds)


@dataclass(frozen=True)
class Unknown:
    """Questions the guide must not pretend to answer, in one language.

    Attributes:
        language: "en" or "zh".
        ask: questions it is trained on.
        held_out: questions it never sees.
        answers: ways to say so; each names `vramble pull` and Ctrl+O.
    """

    language: str
    ask: tuple[str, ...]
    held_out: tuple[str, ...]
    answers: tuple[str, ...]


def read_facts() -> list[Fact]:
    """All facts in all languages, in the order of the files."""
    more = _more_phrasings()
    return [
        _fact(entry, language, more.get(entry["id"], {}).get(language, []))
        for entry in _entries()
        for language in LANGUAGES
    ]


def read_unknown() -> list[Unknown]:
    """Off-topic questions, one entry per language."""
    table, more = _read(TEXT / "unknown.toml"), _read(PHRASINGS / "unknown.toml")
    return [_unknown(table[language], language, more[language]) for language in LANGUAGES]


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def _entries() -> list[dict[str, Any]]:
    paths = sorted(path for path in TEXT.glob("*.toml") if path.stem != "unknown")
    return [entry for path in paths for entry in _read(path)["fact"]]


def _more_phrasings() -> dict[str, dict[str, list[str]]]:
    """Further phrasings to train on, by the fact's name and the language."""
    paths = sorted(path for path in PHRASINGS.glob("*.toml") if path.stem != "unknown")
    return {name: table for path in paths for name, table in _read(path).items()}


def _trained(ask: Iterable[str], held_out: tuple[str, ...]) -> tuple[str, ...]:
    """What is trained on: each phrasing once, and none that differs from a held-out one in form only."""
    kept_apart = set(map(_plain, held_out))
    return tuple(question for question in dict.fromkeys(ask) if _plain(question) not in kept_apart)


def _plain(question: str) -> str:
    return "".join(character for character in question.casefold() if character.isalnum())


def _fact(entry: dict[str, Any], language: str, more: list[str]) -> Fact:
    spoken = entry[language]
    ask = tuple(spoken["ask"])
    held_out = ask[-HELD_OUT_PHRASINGS:]
    return Fact(
        name=entry["id"],
        language=language,
        ask=_trained((*ask[:-HELD_OUT_PHRASINGS], *more), held_out),
        held_out=held_out,
        answer=spoken["answer"],
        more=spoken.get("more", ""),
        holds=tuple(spoken["holds"]),
    )


def _unknown(table: dict[str, list[str]], language: str, more: list[str]) -> Unknown:
    ask = tuple(table["ask"])
    held_out = ask[-HELD_OUT_UNKNOWN:]
    return Unknown(
        language=language,
        ask=_trained((*ask[:-HELD_OUT_UNKNOWN], *more), held_out),
        held_out=held_out,
        answers=tuple(table["answers"]),
    )
