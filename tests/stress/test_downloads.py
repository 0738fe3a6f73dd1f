from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.engine.hub.pulling import ADDRESSES, lead_to
from tests.engine.hub.test_download import kill_and_go_on
from tests.stub_hubs import StubHubs

pytestmark = [pytest.mark.stress, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_twenty_kills_at_random_moments_leave_no_half_model(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StubHubs() as hubs:
        lead_to(hubs, tmp_path, monkeypatch)
        kill_and_go_on(address, hubs, tmp_path, 20, random.SystemRandom().randrange(2**32))
