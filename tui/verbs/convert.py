"""`vramble convert`: safetensors of a model whose weights lie in pickles, after a yes."""

from __future__ import annotations

import argparse
import sys

import engine
from engine import values
from tui import paths
from tui.format import format_size, format_used
from tui.settings import read_settings
from tui.verbs import flags, output
from tui.verbs.naming import find_model
from tui.verbs.progress import ProgressLine
from tui.verbs.usage import Refusal, WrongUsage

_YES = ("y", "yes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble convert` takes."""
    parser.add_argument("model", metavar="MODEL", help="a folder, or a name from `vramble models`")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    flags.add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Say what is to be done, ask, and do it."""
    model = find_model(arguments.model, read_settings(paths.settings_file()))
    pickles = engine.pickles_of(model.place)
    if not arguments.yes:
        _ask(pickles)
    line = ProgressLine()
    try:
        made = engine.convert_pickles(model.place, lambda told: line.show(_words(told)))
    finally:
        line.clear()
    if arguments.json:
        output.write_json({"model": model.name, "folder": str(model.place), **output.plain(made)})
    else:
        _tell(model, pickles, made)
    return 0


def _ask(pickles: engine.Pickles) -> None:
    """Raise Refusal unless a person says yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise WrongUsage("Converting wants a yes, and there is no terminal to ask on.", "Give --yes.")
    for sentence in _sentences(pickles):
        output.tell_progress(sentence)
    sys.stderr.write("Convert it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in _YES:
        raise Refusal("Nothing was converted.", "Answer y, or give --yes.", name="NotConfirmed")


def _sentences(pickles: engine.Pickles) -> tuple[str, ...]:
    count = len(pickles.files)
    files = "1 pickle" if count == 1 else f"{count} pickles"
    return (
        f"{pickles.folder} has its weights in {files}, {format_size(pickles.total_bytes)}. "
        "Pickles can carry code, which runs when they are opened in the usual way.",
        "A process of its own, without network, reads their tensors with torch's unpickler that calls "
        "nothing, and writes safetensors beside them.",
        f"That takes {format_size(pickles.need_bytes)} of disk; {format_size(pickles.free_bytes)} are free.",
    )


def _words(told: engine.ConvertProgress) -> str:
    return f"converting · {format_used(told.done_bytes, told.total_bytes)}"


def _tell(model: values.ModelRef, pickles: engine.Pickles, made: engine.Converted) -> None:
    files = made.files[0] if len(made.files) == 1 else f"{len(made.files)} files of safetensors"
    output.write_line(f"{model.name}: {made.tensors:,} tensors, {format_size(made.total_bytes)}, in {files}.")
    if made.left_out:
        output.write_line(f"- Not written, being no tensors of their own: {', '.join(made.left_out[:6])}.")
    if not made.has_no_network:
        output.write_line(
            "- This system gives no process an empty network: only Python's own calls were refused in it."
        )
    size = format_size(pickles.total_bytes)
    output.write_line(
        f"The pickles are still there ({size}); vramble never opens them, and nothing needs them."
    )
