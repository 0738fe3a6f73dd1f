"""Wrong usage, and an argument parser that says it in one sentence."""

from __future__ import annotations

import argparse
from typing import NoReturn


class WrongUsage(Exception):  # noqa: N818 -- named for what happened, like the tree in engine/errors.py
    """The command line asks for something that cannot be meant: exit code 2.

    Attributes:
        message: what is wrong, one sentence.
        hint: the next step.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises WrongUsage instead of printing its usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raise WrongUsage with argparse's complaint as a sentence."""
        raise WrongUsage(_sentence(message), f"See `{self.prog} --help`.")


def _sentence(complaint: str) -> str:
    text = complaint.removeprefix("argument ").strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
