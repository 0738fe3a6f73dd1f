"""Files are read into the page cache before they are mapped, as far as there is room for them."""

from __future__ import annotations

import pytest

from engine.checkpoint import inspect_folder
from engine.errors import LoadCancelled
from engine.events import Event, LoadProgress
from engine.hf import readahead
from engine.hf.progress import Progress
from engine.readings import RamReading
from engine.values import LoadStage
from tests import tiny_models
from tests.engine.hf.talk import never

TENSORS = inspect_folder(tiny_models.checkpoint("llama")).tensors
FILE_BYTES = sum({tensor.file: tensor.file.stat().st_size for tensor in TENSORS}.values())


def told(monkeypatch: pytest.MonkeyPatch, free_bytes: int) -> list[Event]:
    """What a person is told where so much RAM is free under some ceiling, far below the machine's own."""
    reading = RamReading(total_bytes=free_bytes + 1000, ram_used=1000)
    monkeypatch.setattr(readahead, "read_ram", lambda: reading)
    events: list[Event] = []
    readahead.read_ahead(TENSORS, Progress(events.append, never))
    return events


def test_what_fits_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    last = told(monkeypatch, 2 * FILE_BYTES)[-1]
    assert isinstance(last, LoadProgress)
    assert (last.stage, last.done_bytes, last.total_bytes) == (LoadStage.READ, FILE_BYTES, FILE_BYTES)


def test_what_would_push_itself_out_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, FILE_BYTES) == []


def test_reading_stops_at_a_cancel() -> None:
    with pytest.raises(LoadCancelled):
        readahead.read_ahead(TENSORS, Progress(lambda _: None, lambda: True))
