"""Both hubs on loopback, and the libraries led there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.hub.pulling import lead_to
from tests.stub_hubs import StubHubs


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHubs]:
    with StubHubs() as stub:
        lead_to(stub, tmp_path, monkeypatch)
        yield stub
