"""`vramble ask`: one answer on stdout."""

from __future__ import annotations

import argparse
import sys

from engine import commands, events, values
from tui import paths
from tui.settings import Settings, read_settings
from tui.verbs import flags, output
from tui.verbs.naming import find_model, refuse_address
from tui.verbs.progress import ProgressLine
from tui.verbs.reply import Reply
from tui.verbs.sampling import add_sampling_flags, sampling_of
from tui.verbs.talk import Talk
from tui.verbs.text import as_text, word_as_text
from tui.verbs.trust import add_trust_flag, trusted_code
from tui.verbs.usage import WrongUsage

BUILT_IN = "guide"
_MOST_STDIN_BYTES = 64 * 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble ask` takes."""
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="*", help="the question; text on stdin is added to it"
    )
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="a folder, hf:owner/name, ms:owner/name, a name from `vramble models`, or guide",
    )
    parser.add_argument("--system", metavar="TEXT", help="the system prompt")
    flags.add_json_flag(parser)
    flags.add_load_flags(parser)
    add_trust_flag(parser)
    add_sampling_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Load the model, ask it, and write its answer as it comes."""
    refuse_address(arguments.model or "")
    settings = read_settings(paths.settings_file())
    generate = commands.Generate(
        messages=_messages(arguments, settings), sampling=sampling_of(arguments, settings.sampling)
    )
    load = _load_command(arguments, settings)
    reply = _answer(load, generate, streams=not arguments.json)
    if arguments.json:
        output.write_json(reply.document())
    reply.complain()
    return 0 if reply.is_good else 1


def _answer(load: commands.LoadModel, generate: commands.Generate, *, streams: bool) -> Reply:
    progress = ProgressLine()
    try:
        with Talk() as talk:
            progress.show("starting the engine")
            reply = Reply(talk.load(load, progress.watch), streams=streams)

            def watch(event: events.AnyEvent) -> None:
                progress.watch(event)
                reply.watch(event)

            talk.answer(generate, watch)
            return reply
    finally:
        progress.clear()


def _messages(arguments: argparse.Namespace, settings: Settings) -> tuple[values.ChatMessage, ...]:
    system = settings.system_prompt if arguments.system is None else word_as_text(arguments.system)
    prompt = values.ChatMessage(role=values.Role.USER, content=_prompt(arguments.prompt))
    if not system.strip():
        return (prompt,)
    return (values.ChatMessage(role=values.Role.SYSTEM, content=system), prompt)


def _prompt(words: list[str]) -> str:
    parts = [word_as_text(" ".join(words)), "" if sys.stdin.isatty() else _stdin()]
    prompt = "\n\n".join(part for part in parts if part.strip())
    if not prompt:
        raise WrongUsage("There is no question.", 'Write one: `vramble ask "What is a KV cache?"`.')
    return prompt


def _stdin() -> str:
    found = sys.stdin.buffer.read(_MOST_STDIN_BYTES + 1)
    if len(found) > _MOST_STDIN_BYTES:
        raise WrongUsage(
            "The text on stdin is longer than 64 MiB.", "No model reads that much: send a part of it."
        )
    return as_text(found).strip("\n")


def _load_command(arguments: argparse.Namespace, settings: Settings) -> commands.LoadModel:
    budgets = flags.budgets_of(arguments, settings.budgets.request())
    model = find_model(arguments.model or settings.last_model or BUILT_IN, settings)
    # What is no model is known without starting an engine, and so is code that nobody agreed to.
    trusted = trusted_code(model.folder, is_trusted=arguments.trust_remote_code, adapter=model.adapter)
    return commands.LoadModel(
        model=model,
        budgets=budgets,
        context_window=arguments.context or settings.context_window,
        quantization=flags.quantization_of(arguments) or settings.quantization,
        trusted=trusted,
    )
