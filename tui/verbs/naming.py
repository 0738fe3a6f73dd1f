"""Which model a word on the command line means."""

from __future__ import annotations

from tui.verbs.usage import WrongUsage


def refuse_remote(name: str) -> None:
    """Raise WrongUsage for the address of a server, which this version cannot talk to."""
    if name.lower().startswith(("http://", "https://")):
        raise WrongUsage(
            "This version talks to models on this machine only, not to a server's address.",
            "Give a folder, hf:owner/name, ms:owner/name, or a name from `vramble models`.",
        )
