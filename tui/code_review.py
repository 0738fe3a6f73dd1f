"""What the person looks at before code runs: each file's lines, and what changed since the last yes."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tui.safe_text import SafeText, safe_line
from tui.widgets.source_view import SourceLine, hidden_characters

if TYPE_CHECKING:
    from engine import CodeOrigin
    from tui.consents import Agreement, Consents

_MOST_LINES_COMPARED = 20_000
"""Comparing takes time that grows faster than the lines; longer files are shown whole."""
_AROUND = 3
_COMMIT_SHOWN = 12


class FileState(enum.StrEnum):
    """How a file stands to the last yes; its value is what the list says."""

    UNSEEN = ""
    SAME = "as agreed"
    CHANGED = "changed"
    NEW = "new"
    GONE = "removed"


class ReviewedFile(NamedTuple):
    """One file.

    Attributes:
        name: harmless.
        sha256: empty for one that is gone.
        state: against the last yes.
        lines: as they would be compiled; as they were for one that is gone.
        changes: lines removed and added, with some around them; empty where nothing can be compared.
        hidden: characters in it that cannot be seen, or turn what follows around.
    """

    name: SafeText
    sha256: str
    state: FileState
    lines: tuple[SourceLine, ...]
    changes: tuple[SourceLine, ...] = ()
    hidden: int = 0


class CodeReview(msgspec.Struct, frozen=True, kw_only=True):
    """One repository's code as it is shown.

    Attributes:
        model: the name of the model that would run it.
        repository: who brings it.
        revision: its commit, shortened; empty for a folder.
        is_foreign: another repository than the model's own.
        agreed_at: of the last yes, seconds since the epoch; None for none.
        files: the changed ones first.
    """

    model: SafeText
    repository: SafeText
    revision: SafeText
    is_foreign: bool
    agreed_at: float | None
    files: tuple[ReviewedFile, ...]


def review_of(origin: CodeOrigin, model: str, consents: Consents) -> CodeReview:
    """Prepare what is shown of a repository's code; slow, and not for the loop."""
    last = consents.last(origin.repository)
    found = [*_present(origin, last, consents), *_gone(origin, last, consents)]
    shown_first = (FileState.CHANGED, FileState.NEW, FileState.GONE, FileState.UNSEEN, FileState.SAME)
    return CodeReview(
        model=safe_line(model),
        repository=safe_line(
            origin.repository.replace(":", " · ", 1) if origin.revision else origin.repository
        ),
        revision=safe_line(origin.revision[:_COMMIT_SHOWN]),
        is_foreign=origin.is_foreign,
        agreed_at=last.agreed_at if last else None,
        files=tuple(sorted(found, key=lambda file: shown_first.index(file.state))),
    )


def _present(origin: CodeOrigin, last: Agreement | None, consents: Consents) -> Iterator[ReviewedFile]:
    for source in origin.sources:
        text, before = source.text, last.files.get(source.file.name) if last else None
        state = _state(source.file.sha256, before, is_first=last is None)
        old = consents.text(before) if before and state is FileState.CHANGED else None
        yield ReviewedFile(
            name=safe_line(source.file.name),
            sha256=source.file.sha256,
            state=state,
            lines=source_lines(text),
            changes=() if old is None else changed_lines(old, text),
            hidden=hidden_characters(text),
        )


def _gone(origin: CodeOrigin, last: Agreement | None, consents: Consents) -> Iterator[ReviewedFile]:
    present = {file.name for file in origin.files}
    for name, sha256 in last.files.items() if last else ():
        if name not in present:
            lines = source_lines(consents.text(sha256) or "")
            yield ReviewedFile(name=safe_line(name), sha256="", state=FileState.GONE, lines=lines)


def _state(sha256: str, before: str | None, *, is_first: bool) -> FileState:
    if is_first:
        return FileState.UNSEEN
    if before is None:
        return FileState.NEW
    return FileState.SAME if before == sha256 else FileState.CHANGED


def source_lines(text: str) -> tuple[SourceLine, ...]:
    """Each line of a file with its number, split where Python ends lines and nowhere else."""
    return tuple(SourceLine(number, line) for number, line in enumerate(_split(text), start=1))


def changed_lines(before: str, now: str) -> tuple[SourceLine, ...]:
    """Removed and added lines with those around them; empty for files too long to be compared."""
    old, new = _split(before), _split(now)
    if max(len(old), len(new)) > _MOST_LINES_COMPARED:
        return ()
    found: list[SourceLine] = []
    for group in difflib.SequenceMatcher(None, old, new).get_grouped_opcodes(_AROUND):
        if found:
            found.append(SourceLine(None, "⋯", "@"))
        for kind, old_from, old_to, new_from, new_to in group:
            if kind != "equal":
                found += [SourceLine(None, line, "-") for line in old[old_from:old_to]]
            sign = "" if kind == "equal" else "+"
            found += [SourceLine(n + 1, new[n], sign) for n in range(new_from, new_to)]
    return tuple(found)


def _split(text: str) -> list[str]:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
