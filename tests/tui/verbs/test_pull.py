"""`vramble pull`, with the hubs' real libraries and stub hubs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.hub.pulling import REPO, lead_to, repository
from tests.pty_driver import terminal
from tests.stub_hubs import StubHubs
from tui import cli


@pytest.fixture
def hubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHubs]:
    monkeypatch.setenv("VRAMBLE_HOME", str(tmp_path / "home"))
    with StubHubs() as stub:
        lead_to(stub, tmp_path, monkeypatch)
        yield stub


def test_a_pull_says_what_it_fetches_and_how_to_chat_with_it(
    hubs: StubHubs, capsys: pytest.CaptureFixture[str]
) -> None:
    hubs.add(REPO, repository())
    assert cli.run(["pull", f"ms:{REPO}"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert f"ms:{REPO}: 6 files, 392 KiB." in said.out
    assert "- Not fetched: 1 file of pickles" in said.out
    assert f"{REPO} is installed, and every checksum holds" in said.out
    assert f"`vramble ms:{REPO}` opens a chat with it." in said.out
    assert cli.run(["pull", f"ms:{REPO}"]) == 0
    assert "all of it was here" in capsys.readouterr().out


def test_json_is_an_object_a_line_for_every_event(hubs: StubHubs, capsys: pytest.CaptureFixture[str]) -> None:
    hubs.add(REPO, repository())
    assert cli.run(["pull", f"hf:{REPO}", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events if event["event"] != "progress"] == ["listed", "installed"]
    assert events[-1]["model"]["repo_id"] == REPO
    assert {"stage", "done_bytes", "seconds_left", "files"} <= set(events[0])
    assert cli.run(["pull", "hf:nobody/nothing", "--json"]) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["error"]) == ("failed", "UnknownRepository")


def test_a_failure_is_one_line_and_exit_1_and_a_bad_name_exit_2(
    hubs: StubHubs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["pull", "ms:nobody/nothing"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("vramble: ModelScope has no model nobody/nothing")
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert cli.run(["pull", "../../etc"]) == 2
    assert "hf:owner/name" in capsys.readouterr().err


def test_ctrl_c_pauses_and_the_same_command_goes_on(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 1_000_000
    command = [sys.executable, "-m", "tui", "pull", f"ms:{REPO}", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if json.loads(line).get("done_bytes", 0) > 500_000:
                os.kill(run.pid, signal.SIGINT)
                break
        lines = run.stdout.read().splitlines()
        assert run.wait(10) == 1
    assert json.loads(lines[-1]) == {"event": "paused"}
    hubs.bytes_per_second = 0
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert sum(hubs.sent.values()) < 1.1 * 2_100_000


def test_a_terminal_has_one_line_with_rate_and_time_left(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_500_000))
    hubs.bytes_per_second = 800_000
    told = re.compile(rb"\r\x1b\[Kfetching \d / \d MiB \xc2\xb7 \d MB/s \xc2\xb7 [\d.]+ s left")
    with terminal("pull", f"ms:{REPO}", columns=100) as opened:
        opened.wait_until(lambda: told.search(opened.raw) is not None, "a line with rate and time left")
        assert sum("fetching" in row for row in opened.screen.display) == 1
        opened.send("\x03")
        assert opened.wait(10) == 1
        assert f"Paused. `vramble pull ms:{REPO}` goes on from here." in opened.text
        assert "fetching" not in opened.text
