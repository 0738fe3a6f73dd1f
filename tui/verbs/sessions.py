"""`vramble sessions`: saved talk, listed, searched, shown, exported and imported."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sessions import (
    Session,
    SessionError,
    SessionStore,
    read_export,
    to_json,
    to_markdown,
    write_export,
)
from tui import paths
from tui.format import format_age
from tui.verbs import flags, output
from tui.verbs.table import table_lines
from tui.verbs.usage import Refusal, WrongUsage

_LIMIT = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `vramble sessions` takes."""
    parser.add_argument(
        "action", nargs="?", choices=sorted(_ACTIONS), default="list", help="what to do; list is the default"
    )
    parser.add_argument("what", nargs="*", metavar="TEXT|ID|FILE", help="what to do it with")
    parser.add_argument(
        "--limit", metavar="N", type=flags.whole_number, default=_LIMIT, help="the most to show"
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, help="where `export` writes; a new file")
    parser.add_argument("--markdown", action="store_true", help="`export` writes Markdown instead of JSON")
    flags.add_json_flag(parser)


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked with the store open."""
    try:
        with SessionStore(paths.sessions_file()) as store:
            for notice in store.notices:
                output.complain(notice)
            _ACTIONS[arguments.action](store, arguments)
    except SessionError as error:
        raise Refusal(error.message, error.hint, type(error).__name__) from error
    return 0


def _list(store: SessionStore, arguments: argparse.Namespace) -> None:
    if arguments.what:
        raise WrongUsage(
            "`vramble sessions list` takes nothing more.", "To look for text, use `search TEXT`."
        )
    found = store.sessions(limit=arguments.limit).result()
    if arguments.json:
        output.write_json([asdict(session) for session in found])
    elif found:
        _write_table(["id", "age", "turns", "model", "title"], [_row(session) for session in found])
    else:
        output.write_line("No talk is saved yet.")


def _row(session: Session) -> list[str]:
    age = format_age(max(0.0, time.time() - session.updated_at))
    return [str(session.id), age, str(session.turn_count), session.model, session.title]


def _search(store: SessionStore, arguments: argparse.Namespace) -> None:
    text = " ".join(arguments.what)
    if not text.strip():
        raise WrongUsage("There is no text to search for.", "Write `vramble sessions search TEXT`.")
    hits = store.search(text, limit=arguments.limit).result()
    if arguments.json:
        output.write_json([asdict(hit) for hit in hits])
    elif hits:
        _write_table(
            ["id", "title", "found"], [[str(hit.session_id), hit.title, hit.snippet] for hit in hits]
        )
    else:
        output.write_line("Nothing was found.")


def _show(store: SessionStore, arguments: argparse.Namespace) -> None:
    record = store.record(_id(arguments)).result()
    output.write_text(to_json(record) if arguments.json else to_markdown(record))


def _export(store: SessionStore, arguments: argparse.Namespace) -> None:
    record = store.record(_id(arguments)).result()
    text = to_markdown(record) if arguments.markdown else to_json(record)
    if arguments.output is None:
        output.write_text(text)
    else:
        write_export(arguments.output, text)


def _import(store: SessionStore, arguments: argparse.Namespace) -> None:
    session = store.add(read_export(Path(_only(arguments, "a file")))).result()
    if arguments.json:
        output.write_json(asdict(session))
    else:
        output.write_line(f"Session {session.id}: {session.title}")


def _id(arguments: argparse.Namespace) -> int:
    text = _only(arguments, "a session's number")
    if not text.isdecimal():
        raise WrongUsage(f"{text!r} is no session's number.", "`vramble sessions` lists them.")
    return int(text)


def _only(arguments: argparse.Namespace, what: str) -> str:
    if len(arguments.what) != 1:
        raise WrongUsage(f"`vramble sessions {arguments.action}` takes {what}, and nothing more.")
    return str(arguments.what[0])


def _write_table(header: list[str], rows: list[list[str]]) -> None:
    for line in table_lines(header, rows, numbers="r"):
        sys.stdout.write(line + "\n")


_ACTIONS: dict[str, Callable[[SessionStore, argparse.Namespace], None]] = {
    "list": _list,
    "search": _search,
    "show": _show,
    "export": _export,
    "import": _import,
}
