"""How far a load is: events in bytes, and the place where a cancel is noticed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.utils import logging as transformers_logging

from engine.backend import Cancelled, Emit
from engine.errors import LoadCancelled
from engine.events import LoadProgress
from engine.values import LoadStage

REPORT_SECONDS = 0.1


class Progress:
    """Tells how far a load is, stage by stage."""

    def __init__(self, emit: Emit, cancelled: Cancelled) -> None:
        """Take where events go, and what says that the load should stop."""
        self._emit = emit
        self._cancelled = cancelled
        self._stage = LoadStage.IMPORT
        self._total = 0
        self._on_bytes: Callable[[int], None] = lambda _: None
        self._began_at = self._told_at = time.monotonic()

    def begin(self, stage: LoadStage, total_bytes: int = 0) -> None:
        """Enter a stage; raises LoadCancelled."""
        self._stage, self._total = stage, total_bytes
        self._began_at = time.monotonic()
        self._tell(0)
        self.check()

    def reach(self, done_bytes: int) -> None:
        """Report the stage's bytes, ten times a second at most; raises LoadCancelled."""
        self.check()
        if done_bytes >= self._total or time.monotonic() - self._told_at >= REPORT_SECONDS:
            self._tell(done_bytes)

    def check(self) -> None:
        """Raise LoadCancelled when the person has stopped the load."""
        if self._cancelled():
            raise LoadCancelled("The load was stopped.", "Load it again whenever you like.")

    @contextmanager
    def counting(self, on_bytes: Callable[[int], None]) -> Iterator[None]:
        """Count what transformers loads meanwhile, by its own progress bar.

        Args:
            on_bytes: is told how many bytes are loaded, on the loading thread.
        """
        self._on_bytes = on_bytes
        before = transformers_logging.set_tqdm_hook(self._bar)
        try:
            yield
        finally:
            transformers_logging.set_tqdm_hook(before)

    @contextmanager
    def watching(self, done_bytes: Callable[[], int]) -> Iterator[None]:
        """Report what something else has read, whenever transformers goes on with its own bar."""
        before = transformers_logging.set_tqdm_hook(
            lambda _factory, args, kwargs: _Bar(
                args[0] if args else kwargs.get("iterable"),
                kwargs.get("total"),
                lambda _: self.reach(done_bytes()),
            )
        )
        try:
            yield
        finally:
            transformers_logging.set_tqdm_hook(before)

    def _bar(self, _factory: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Bar:
        items = args[0] if args else kwargs.get("iterable")
        return _Bar(items, kwargs.get("total"), self._reach_share)

    def _reach_share(self, share: float) -> None:
        done = int(share * self._total)
        self._on_bytes(done)
        self.reach(done)

    def _tell(self, done_bytes: int) -> None:
        self._told_at = time.monotonic()
        elapsed = self._told_at - self._began_at
        left = elapsed * (self._total - done_bytes) / done_bytes if done_bytes and elapsed > 1 else None
        self._emit(
            LoadProgress(stage=self._stage, done_bytes=done_bytes, total_bytes=self._total, seconds_left=left)
        )


class _Bar:
    """Stands in for tqdm: iterable or updated by hand, and deaf to everything else."""

    def __init__(
        self, items: Iterable[Any] | None, total: int | None, report: Callable[[float], None]
    ) -> None:
        self._items = list(items) if items is not None else []
        self._total = total or len(self._items) or 1
        self._done = 0
        self._report = report

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            yield item
            self.update()

    def update(self, count: int = 1) -> None:
        self._done += count
        self._report(min(1.0, self._done / self._total))

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_exception: object) -> None:
        return None

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda *_args, **_kwargs: None
