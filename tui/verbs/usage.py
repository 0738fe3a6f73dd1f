"""Refusals, wrong usage, and an argument parser that says it in one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Refusal(Exception):  # noqa: N818 -- named for what happened, like the tree in engine/errors.py
    """A command ends without a result: exit code 1.

    Attributes:
        message: what is wrong, one sentence.
        hint: the next step.
        name: what --json calls it.
    """

    def __init__(self, message: str, hint: str = "", name: str = "") -> None:
        """Keep cause, next step and the name that `--json` shows."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.name = name or type(self).__name__


class WrongUsage(Refusal):
    """The command line asks for something that cannot be meant: exit code 2."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises WrongUsage instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongUsage with argparse's complaint as a sentence."""
        raise WrongUsage(_sentence(message), f"See `{self.prog} --help`.")


def _sentence(complaint: str) -> str:
    text = complaint.removeprefix("argument ").strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
