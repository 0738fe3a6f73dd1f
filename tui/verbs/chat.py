"""`vramble [MODEL]`: the chat."""

from __future__ import annotations

import argparse
import gc
import os
import sys

from engine import values
from tui import paths
from tui.options import ChatOptions
from tui.settings import Settings, load_settings
from tui.verbs import flags, output
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.trust import add_trust_flag, trusted_code
from tui.verbs.usage import WrongUsage

BUILT_IN = "guide"
_WITHOUT_A_SCREEN = {"", "dumb", "unknown"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble` takes."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a folder, hf:owner/name, ms:owner/name, a name from `vramble models`, or guide",
    )
    resumed = parser.add_mutually_exclusive_group()
    resumed.add_argument(
        "-c", "--continue", dest="resume", action="store_true", help="resume the last session"
    )
    resumed.add_argument("--session", metavar="ID", type=_session_id, help="resume this session")
    flags.add_load_flags(parser)
    add_trust_flag(parser)
    parser.add_argument("--plain", action="store_true", help="lines instead of a screen")
    parser.add_argument("--theme", metavar="NAME", help="a palette, for this time")
    parser.add_argument("--version", action="store_true", help="the version, and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Open the chat; the exit code is its."""
    if arguments.version:
        return _tell_version()
    refuse_address(arguments.model or "")
    options = options_of(arguments, load_settings(paths.settings_file()).settings)
    if not arguments.plain:
        _refuse_pipes()
    # A key is seen with the next frame, so frames come twice as often as is usual; widgets that did
    # not change draw nothing in them.
    os.environ.setdefault("TEXTUAL_FPS", "120")
    # Until the first frame is painted: collecting garbage meanwhile takes an eighth of the start.
    gc.disable()
    from tui.app import run_chat

    return run_chat(options)


def options_of(arguments: argparse.Namespace, settings: Settings) -> ChatOptions:
    """What the arguments say as values; the settings hold where they say nothing.

    Raises:
        WrongUsage: a flag's value is none.
        EngineError: the model whose code is to be trusted cannot be found or loaded.
    """
    return ChatOptions(
        model=arguments.model,
        session=arguments.session,
        resume_last=arguments.resume,
        context_window=arguments.context or settings.context_window,
        quantization=flags.quantization_of(arguments) or settings.quantization,
        budgets=flags.budgets_of(arguments, settings.budgets.request()),
        plain=arguments.plain or os.environ.get("TERM", "") in _WITHOUT_A_SCREEN,
        theme=arguments.theme,
        trusted=_trusted(arguments, settings) if arguments.trust_remote_code else (),
    )


def _trusted(arguments: argparse.Namespace, settings: Settings) -> tuple[values.CodeFile, ...]:
    """The code of the model that the chat begins with; others are asked about on the screen."""
    model = find_model(arguments.model or settings.last_model or BUILT_IN, settings)
    return trusted_code(model.folder, is_trusted=True, adapter=model.adapter)


def _session_id(text: str) -> str:
    return str(flags.whole_number(text))


def _refuse_pipes() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WrongUsage("The chat needs a terminal.", "In a pipe, use `vramble ask`.")


def _tell_version() -> int:
    from importlib.metadata import PackageNotFoundError, version

    try:
        output.write_line(f"vramble {version('vramble')}")
    except PackageNotFoundError:
        output.write_line("vramble, run from its sources without being installed")
    return 0
