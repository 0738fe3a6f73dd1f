"""Which model a word on the command line means."""

from __future__ import annotations

import engine
from engine import errors, values
from tui.settings import Settings
from tui.verbs.usage import WrongUsage

_NO_SERVERS = "This version talks to models on this machine only, not to a server's address."
_HINT = "Give a folder, hf:owner/name, ms:owner/name, or a name from `vramble models`."


def find_model(name: str, settings: Settings) -> values.ModelRef:
    """The model of that name, folder or hub's name.

    Raises:
        UnknownModel: nothing on this machine answers to it.
    """
    if is_address(name):
        raise errors.UnknownModel(_NO_SERVERS, _HINT)
    if not _is_text(name):
        message = "The model's name is no text in this locale."
        raise errors.UnknownModel(message, "Set LC_ALL=C.UTF-8, or rename the folder.")
    return engine.find_model(name, settings.model_folders)


def refuse_address(name: str) -> None:
    """Raise WrongUsage for the address of a server."""
    if is_address(name):
        raise WrongUsage(_NO_SERVERS, _HINT)


def is_address(name: str) -> bool:
    """The word is a server's address, which this version cannot talk to."""
    return name.lower().startswith(("http://", "https://"))


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
