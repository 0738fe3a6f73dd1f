"""The guide's training text: facts with several phrasings each, some of which are held out as the test."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).parent / "text"
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
    return [_fact(entry, language) for entry in _entries() for language in LANGUAGES]


def read_unknown() -> list[Unknown]:
    """Off-topic questions, one entry per language."""
    table = tomllib.loads((TEXT / "unknown.toml").read_text(encoding="utf-8"))
    return [_unknown(table[language], language) for language in LANGUAGES]


def _entries() -> list[dict[str, object]]:
    paths = sorted(path for path in TEXT.glob("*.toml") if path.stem != "unknown")
    return [entry for path in paths for entry in tomllib.loads(path.read_text(encoding="utf-8"))["fact"]]


def _fact(entry: dict[str, object], language: str) -> Fact:
    spoken = entry[language]
    if not isinstance(spoken, dict):
        message = f"fact {entry['id']} has no [{language}] table"
        raise TypeError(message)
    ask = tuple(spoken["ask"])
    return Fact(
        name=str(entry["id"]),
        language=language,
        ask=ask[:-HELD_OUT_PHRASINGS],
        held_out=ask[-HELD_OUT_PHRASINGS:],
        answer=spoken["answer"],
        more=spoken.get("more", ""),
        holds=tuple(spoken["holds"]),
    )


def _unknown(table: dict[str, list[str]], language: str) -> Unknown:
    ask = tuple(table["ask"])
    return Unknown(
        language=language,
        ask=ask[:-HELD_OUT_UNKNOWN],
        held_out=ask[-HELD_OUT_UNKNOWN:],
        answers=tuple(table["answers"]),
    )
