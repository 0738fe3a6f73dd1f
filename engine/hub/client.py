"""What a hub's own library is asked for, and where its cache lays a model out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from engine.hub.listing import Listing, RemoteFile
from engine.values import ModelRef


class Client(Protocol):
    """A hub's library, for one repository; several threads may fetch at once.

    Attributes:
        resumes: what a killed fetch left in its folder is gone on with.
    """

    resumes: bool

    def list(self) -> Listing:
        """All files of the repository, checked. Raises what the library raises, or a DownloadError."""

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Fetch one file into a folder of its own; where it lies. Raises what the library raises."""


class Cache(Protocol):
    """A hub's cache on this disk."""

    root: Path

    def find(self, file: RemoteFile) -> Path | None:
        """Where the cache may have a file already; its content is not looked at."""

    def install(self, files: dict[str, Path], listing: Listing) -> ModelRef:
        """Move files that are right into the cache, so that all of them appear at once.

        Args:
            files: by their path in the repository, on the disk of the cache.
            listing: what they are of.
        """
