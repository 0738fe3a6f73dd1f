"""Main of a download's process: fetches one model and tells how far it is; ends when its parent does.

`python -m engine.hub.child ADDRESS`. Events go to file descriptor 1 as frames of the wire; descriptor 0 is
open as long as the parent lives. What libraries say goes nowhere: it may quote a token.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from engine.downloads import AnyDownloadEvent, DownloadFailed, Repository
from engine.hub.caches import cache_of
from engine.hub.client import Client
from engine.hub.failures import explained
from engine.hub.fetch import Fetch
from engine.hub.huggingface import HuggingFaceClient
from engine.hub.modelscope import ModelScopeClient
from engine.hub.repositories import parse_repository
from engine.values import Hub
from engine.wire import encode

_ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_UNLESS_SET = {
    # Four tries of a listing, seconds apart, are long for a person who has no network.
    "MODELSCOPE_REPO_TREE_PAGE_MAX_ATTEMPTS": "2",
    # An hour is too short for a large file on a slow line; a stall is noticed otherwise.
    "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": "604800",
}


def main(arguments: Sequence[str]) -> NoReturn:
    """Fetch what the only argument names; nothing is cleaned up on the way out, so that the way is short."""
    repository = parse_repository(arguments[0])
    wire = os.dup(1)
    _silence()
    _prepare_libraries()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()

    def fail(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> NoReturn:
        """Tell the person what ended it, whatever it was; threads that still fetch end with the process."""
        failure = explained(error, repository)
        event = DownloadFailed(error=type(failure).__name__, message=failure.message, hint=failure.hint)
        _send(wire, event)
        os._exit(1)

    sys.excepthook = fail
    Fetch(repository, client_of(repository), cache_of(repository), lambda event: _send(wire, event)).run()
    os._exit(0)


def client_of(repository: Repository) -> Client:
    """The library of the repository's hub."""
    if repository.hub is Hub.HUGGINGFACE:
        return HuggingFaceClient(repository)
    return ModelScopeClient(repository)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _prepare_libraries() -> None:
    os.environ.update(_ENVIRONMENT)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def _send(wire: int, event: AnyDownloadEvent) -> None:
    with suppress(OSError):  # a parent that is gone is noticed by the thread that reads from it
        frame = memoryview(encode(event))
        while frame:
            frame = frame[os.write(wire, frame) :]


if __name__ == "__main__":
    main(sys.argv[1:])
