"""What a download is of, and what it tells on its way."""

from __future__ import annotations

import enum

from engine.value import Value
from engine.values import Hub, ModelRef


class Repository(Value, frozen=True, kw_only=True):
    """A model on a hub; made by `parse_repository`, which checks it.

    Attributes:
        hub: which one.
        repo_id: owner/name.
        revision: a branch, a tag or a commit; empty for the hub's default branch.
    """

    hub: Hub
    repo_id: str
    revision: str = ""

    @property
    def address(self) -> str:
        """What names it on the command line: "hf:owner/name@revision"."""
        prefix = "hf" if self.hub is Hub.HUGGINGFACE else "ms"
        return f"{prefix}:{self.repo_id}" + (f"@{self.revision}" if self.revision else "")


class DownloadStage(enum.StrEnum):
    """What a download is doing."""

    LIST = "list"
    CHECK = "check"
    FETCH = "fetch"
    INSTALL = "install"


class FileProgress(Value, frozen=True, kw_only=True):
    """How far one file is.

    Attributes:
        path: in the repository (hostile until made SafeText).
        done_bytes: of total_bytes.
        total_bytes: its size.
        is_checking: it is here, and its checksum is being computed.
    """

    path: str
    done_bytes: int
    total_bytes: int
    is_checking: bool = False


class DownloadEvent(Value, frozen=True, kw_only=True, tag=True):
    """A fact about a download."""


class DownloadListed(DownloadEvent, frozen=True, kw_only=True):
    """The hub said what is in the repository, and what of it is here already.

    Attributes:
        files: how many are wanted.
        total_bytes: of those.
        have_bytes: of total_bytes, here already with the right checksums.
        notes: sentences about what else is there and not fetched.
    """

    files: int
    total_bytes: int
    have_bytes: int = 0
    notes: tuple[str, ...] = ()


class DownloadProgress(DownloadEvent, frozen=True, kw_only=True):
    """How far a download is; a few times a second, and may be dropped.

    Attributes:
        stage: what it is doing.
        done_bytes: of total_bytes.
        total_bytes: of all wanted files; 0 before they are known.
        bytes_per_second: of the last seconds; 0 where nothing came.
        seconds_left: None before it can be told.
        silent_seconds: how long nothing has come; 0 while it flows.
        files: those under way.
    """

    stage: DownloadStage
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: float = 0.0
    seconds_left: float | None = None
    silent_seconds: float = 0.0
    files: tuple[FileProgress, ...] = ()


class Downloaded(DownloadEvent, frozen=True, kw_only=True):
    """The model is installed: every checksum holds. Nothing follows.

    Attributes:
        model: where it lies.
        fetched_bytes: what came over the network; 0 where all of it was here.
        total_bytes: of its files.
    """

    model: ModelRef
    fetched_bytes: int = 0
    total_bytes: int = 0


class DownloadFailed(DownloadEvent, frozen=True, kw_only=True):
    """It ended without a model; what is here stays for the next try. Nothing follows.

    Attributes:
        error: the class in errors.py ("AccessDenied").
        message: what happened and why.
        hint: the next step.
    """

    error: str
    message: str
    hint: str = ""


class DownloadPaused(DownloadEvent, frozen=True, kw_only=True):
    """It was stopped, and what is here stays; the same download goes on from there. Nothing follows."""


class DownloadCancelled(DownloadEvent, frozen=True, kw_only=True):
    """It was stopped, and what it had fetched is removed. Nothing follows."""


AnyDownloadEvent = (
    DownloadListed | DownloadProgress | Downloaded | DownloadFailed | DownloadPaused | DownloadCancelled
)
ENDS = (Downloaded, DownloadFailed, DownloadPaused, DownloadCancelled)
"""Nothing follows these."""
