"""What the person agreed to run: per repository the hash of each file, and what the files said then."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import msgspec

from tui.paths import private_folder, state_folder, write_private

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine import CodeOrigin

_MOST_BYTES = 8 << 20


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """The last yes to one repository's code.

    Attributes:
        repository: which.
        revision: its commit then; empty for a folder.
        agreed_at: seconds since the epoch.
        files: the SHA-256 of each file, by its name.
    """

    repository: str
    revision: str
    agreed_at: float
    files: dict[str, str]


class Consents:
    """Agreements in one file, and beside it the text of every file agreed to, under its hash."""

    def __init__(self, folder: Path | None = None, clock: Callable[[], float] = time) -> None:
        """Prepare; nothing is read yet.

        Args:
            folder: a private one; None takes the state folder's own.
            clock: seconds since the epoch.
        """
        self._given = folder
        self._clock = clock

    @property
    def _folder(self) -> Path:
        return private_folder(self._given or state_folder() / "consents")

    @property
    def _file(self) -> Path:
        return self._folder / "consents.json"

    def last(self, repository: str) -> Agreement | None:
        """The last yes to a repository's code; None where there was none."""
        return self._all().get(repository)

    def cover(self, origin: CodeOrigin) -> bool:
        """The person agreed to exactly these files of this repository."""
        last = self.last(origin.repository)
        return last is not None and last.files == {file.name: file.sha256 for file in origin.files}

    def text(self, sha256: str) -> str | None:
        """What a file said that was agreed to; None where that is not known any more."""
        try:
            content = (self._folder / f"{sha256}.txt").read_bytes()
            return content.decode() if hashlib.sha256(content).hexdigest() == sha256 else None
        except (OSError, ValueError):
            return None

    def agree(self, origin: CodeOrigin) -> None:
        """Keep a yes to these files of this repository, in place of the one before.

        Raises:
            FolderError: the state folder is not safely ours.
            OSError: it cannot be written.
        """
        for source in origin.sources:
            write_private(self._folder / f"{source.file.sha256}.txt", source.content.decode())
        agreement = Agreement(
            repository=origin.repository,
            revision=origin.revision,
            agreed_at=self._clock(),
            files={file.name: file.sha256 for file in origin.files},
        )
        kept = self._all() | {origin.repository: agreement}
        write_private(self._file, msgspec.json.encode(list(kept.values())).decode())
        self._sweep(kept.values())

    def _all(self) -> dict[str, Agreement]:
        """Every agreement; none where the file is damaged, so that the person is asked again."""
        try:
            with self._file.open("rb") as file:
                found = msgspec.json.decode(file.read(_MOST_BYTES), type=list[Agreement])
        except (OSError, ValueError):  # msgspec's own errors are ValueErrors
            return {}
        return {agreement.repository: agreement for agreement in found}

    def _sweep(self, agreements: Iterable[Agreement]) -> None:
        """Remove texts that no agreement names."""
        wanted = {f"{digest}.txt" for agreement in agreements for digest in agreement.files.values()}
        for path in self._folder.glob("*.txt"):
            if path.name not in wanted:
                with contextlib.suppress(OSError):
                    path.unlink()
