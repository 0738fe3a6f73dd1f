"""Arguments and sub-commands; the work is done in `tui.verbs`."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from engine.errors import EngineError, InvalidValue
from tui.paths import FolderError
from tui.settings import SettingsError
from tui.verbs import output
from tui.verbs.usage import Parser, Refusal, WrongUsage


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One sub-command.

    Attributes:
        module: where `add_arguments` and `run` are; imported when it is asked for.
        summary: one line for the help.
    """

    module: str
    summary: str


class VerbModule(Protocol):
    """What a module in `tui.verbs` offers."""

    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


CHAT = Verb(
    module="tui.verbs.chat",
    summary="Chat with a local model, and see where every byte of VRAM and RAM goes.",
)
VERBS = {
    "ask": Verb(module="tui.verbs.ask", summary="one answer on stdout; reads stdin"),
    "plan": Verb(module="tui.verbs.plan", summary="what would go where, and how fast"),
    "models": Verb(module="tui.verbs.models", summary="what is on this disk, and whether it fits"),
    "pull": Verb(module="tui.verbs.pull", summary="download a model, with progress, resume and checksums"),
    "convert": Verb(module="tui.verbs.convert", summary="make safetensors of a model that lies in pickles"),
    "sessions": Verb(module="tui.verbs.sessions", summary="saved talk: list, search, show, export, import"),
    "doctor": Verb(module="tui.verbs.doctor", summary="what works on this machine, and what to do"),
}
NOT_YET = {
    "bench": (
        "This version cannot measure a model's speed yet.",
        "`vramble ask --json` tells the tokens per second of one answer.",
    ),
}


def run(words: Sequence[str]) -> int:
    """Do what the words after `vramble` ask for.

    Returns:
        The exit code: 0 good, 1 it failed, 2 wrong usage.
    """
    output.open_streams()
    output.use_unicode()
    as_json = "--json" in words
    try:
        return _dispatch(words)
    except (WrongUsage, InvalidValue) as wrong:
        output.fail(wrong.message, wrong.hint, error=type(wrong).__name__, as_json=as_json)
        return 2
    except Refusal as refused:
        output.fail(refused.message, refused.hint, error=refused.name, as_json=as_json)
    except (EngineError, SettingsError, FolderError) as error:
        output.fail(error.message, error.hint, error=type(error).__name__, as_json=as_json)
    except BrokenPipeError:
        output.forget_stdout()
    except OSError as error:
        output.fail(*_explained(error), error=type(error).__name__, as_json=as_json)
    except KeyboardInterrupt:
        output.fail("Stopped.", "", error="Stopped", as_json=as_json)
    return 1


def _dispatch(words: Sequence[str]) -> int:
    first = words[0] if words else ""
    if first in NOT_YET:
        raise WrongUsage(*NOT_YET[first])
    if first in VERBS:
        return _run_verb(VERBS[first], f"vramble {first}", words[1:])
    return _run_verb(CHAT, "vramble", words)


def _run_verb(verb: Verb, prog: str, words: Sequence[str]) -> int:
    module = cast("VerbModule", importlib.import_module(verb.module))
    return module.run(parser_of(verb, prog).parse_intermixed_args(words))


def parser_of(verb: Verb, prog: str) -> Parser:
    """Build the parser of one sub-command, or of the chat, which lists the others in its help."""
    parser = Parser(
        prog=prog,
        description=verb.summary,
        epilog=_commands() if verb is CHAT else None,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cast("VerbModule", importlib.import_module(verb.module)).add_arguments(parser)
    return parser


def _commands() -> str:
    lines = [f"  vramble {name:10}{verb.summary}" for name, verb in VERBS.items()]
    note = "A model folder named like a command is opened with ./ before its name."
    return "\n".join(["commands:", *lines, "", note])


def _explained(error: OSError) -> tuple[str, str]:
    reason = error.strerror or str(error) or type(error).__name__
    where = f" ({error.filename})" if error.filename else ""
    return f"The operating system refused: {reason}{where}.", "Check the path and its permissions."
