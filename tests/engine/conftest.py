"""An engine process for each test, ended after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.process import EngineProcess
from engine.script import Script
from tests.engine.listener import Listener, write_script
from tests.engine.processes import Starter


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def start(tmp_path: Path, listener: Listener) -> Iterator[Starter]:
    engines: list[EngineProcess] = []

    def start_process(script: Script | None = None, **options: Path) -> EngineProcess:
        backend = write_script(tmp_path, script or Script())
        engines.append(EngineProcess(listener, backend=backend, **options))
        engines[-1].start()
        return engines[-1]

    yield start_process
    for engine in engines:
        engine.close()
    assert psutil.Process().children() == []
