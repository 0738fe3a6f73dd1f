"""Downloads by the hubs' real libraries from stub hubs on loopback."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import parse_repository
from engine.downloads import (
    DownloadCancelled,
    Downloaded,
    DownloadFailed,
    DownloadListed,
    DownloadPaused,
    DownloadProgress,
    DownloadStage,
)
from tests.engine.hub.pulling import (
    ADDRESSES,
    REPO,
    SHARDS,
    WANTED,
    Pull,
    content,
    installed,
    left_over,
    listed,
    pull,
    repository,
    until,
    weights,
)
from tests.stub_hubs import StubHubs

SEED = random.SystemRandom().randrange(2**32)


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_what_holds_its_checksums_is_installed(address: str, hubs: StubHubs, tmp_path: Path) -> None:
    files = repository()
    hubs.add(REPO, files)
    run = Pull(address).start()
    end = run.end()
    assert isinstance(end, Downloaded)
    assert content(end.model.folder) == {path: files[path] for path in WANTED}
    assert end.total_bytes == end.fetched_bytes == sum(len(files[path]) for path in WANTED)
    assert listed() == {REPO} == {end.model.name}
    assert left_over(tmp_path) == []
    (told,) = (event for event in run.events if isinstance(event, DownloadListed))
    assert (told.files, told.have_bytes, len(told.notes)) == (len(WANTED), 0, 3)
    stages = [event.stage for event in run.events if isinstance(event, DownloadProgress)]
    assert sorted(set(stages), key=stages.index) == list(DownloadStage)


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_progress_has_a_rate_a_time_left_and_files(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 800_000
    run = Pull(address).start()
    assert isinstance(run.end(), Downloaded)
    told = [event for event in run.events if isinstance(event, DownloadProgress) and event.seconds_left]
    assert any(
        0 < event.done_bytes < event.total_bytes
        and 100_000 < event.bytes_per_second < 20_000_000
        and {file.path for file in event.files} == set(SHARDS)
        for event in told
    )


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_revision_is_a_model_beside_the_default_one(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository(seed=1))
    hubs.add(REPO, repository(seed=5), "v1.0")
    assert isinstance(pull(address), Downloaded)
    end = pull(f"{address}@v1.0")
    assert isinstance(end, Downloaded)
    assert (end.model.folder / SHARDS[0]).read_bytes() == repository(seed=5)[SHARDS[0]]
    assert listed() == {REPO, f"{REPO}@v1.0"}
    assert end.model.name == f"{REPO}@v1.0"


def test_the_older_variable_for_a_mirror_of_modelscope_counts(
    hubs: StubHubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    hubs.add(REPO, repository())
    monkeypatch.setenv("MODELSCOPE_DOMAIN", os.environ["MODELSCOPE_ENDPOINT"])
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    assert isinstance(pull(f"ms:{REPO}"), Downloaded)


def test_a_commit_of_hugging_face_is_pinned(hubs: StubHubs) -> None:
    commit = hubs.add(REPO, repository(seed=1))
    hubs.add(REPO, repository(seed=5))
    end = pull(f"hf:{REPO}@{commit}")
    assert isinstance(end, Downloaded)
    assert end.model.revision == commit
    assert isinstance(pull(f"hf:{REPO}"), Downloaded)
    assert listed() == {REPO, f"{REPO}@{commit[:12]}"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_here_is_checked_and_not_fetched_and_what_is_damaged_is_replaced(
    address: str, hubs: StubHubs
) -> None:
    files = repository()
    hubs.add(REPO, files)
    first = pull(address)
    hubs.sent.clear()
    again = pull(address)
    assert isinstance(first, Downloaded)
    assert isinstance(again, Downloaded)
    assert (again.fetched_bytes, sum(hubs.sent.values()), again.model) == (0, 0, first.model)
    with open(first.model.folder / SHARDS[0], "r+b") as damaged:
        damaged.seek(1000)
        damaged.write(b"damaged")
    repaired = pull(address)
    assert isinstance(repaired, Downloaded)
    assert set(hubs.sent) == {SHARDS[0]}
    assert content(repaired.model.folder) == {path: files[path] for path in WANTED}


def test_a_model_of_modelscopes_older_layout_is_taken_from_there(hubs: StubHubs, tmp_path: Path) -> None:
    files = repository()
    hubs.add(REPO, files)
    older = tmp_path / "ms" / "hub" / "models" / "owner" / "na___me"
    older.mkdir(parents=True)
    (older / SHARDS[0]).write_bytes(files[SHARDS[0]])
    assert isinstance(pull(f"ms:{REPO}"), Downloaded)
    assert SHARDS[0] not in hubs.sent
    assert listed() == {REPO}


def kill_and_go_on(address: str, hubs: StubHubs, folder: Path, kills: int, seed: int) -> None:
    """Kill a download at random moments; what is listed meanwhile is whole, and what was fetched is kept."""
    sys.stdout.write(f"seed {seed}\n")
    moments = random.Random(seed)
    files = repository(1_000_000)
    wanted = {path: files[path] for path in WANTED}
    hubs.add(REPO, files)
    since = 0
    for _ in range(kills):
        hubs.bytes_per_second = 1_500_000
        run = Pull(address).start()
        until(lambda run=run: run.download.pid is not None)  # type: ignore[misc] # bound at once
        run.download.wait(moments.uniform(0.0, 1.6))
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.download.pid or 0, signal.SIGKILL)
        assert isinstance(run.end(), DownloadFailed | Downloaded)
        since += 1
        if listed():
            # It was killed after its work, or not at all: begin with another empty cache.
            assert content(installed()) == wanted
            shutil.rmtree(folder)
            hubs.sent.clear()
            since = 0
    hubs.bytes_per_second = 0
    end = pull(address)
    assert isinstance(end, Downloaded)
    assert content(end.model.folder) == wanted
    if address.startswith("ms"):
        assert sum(hubs.sent.values()) <= 1.1 * end.total_bytes + since * 2**18


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_kill_at_any_moment_leaves_no_half_model_and_is_gone_on_with(
    address: str, hubs: StubHubs, tmp_path: Path
) -> None:
    kill_and_go_on(address, hubs, tmp_path, 3, SEED)
    assert left_over(tmp_path) == []


def test_check_41_modelscope_fetches_the_rest_of_a_file(hubs: StubHubs) -> None:
    files = repository(1_000_000)
    hubs.add(REPO, files)
    hubs.bytes_per_second = 2_000_000
    run = Pull(f"ms:{REPO}").start()
    run.wait_for_bytes(1_200_000)
    run.download.pause()
    assert isinstance(run.end(), DownloadPaused)
    hubs.bytes_per_second = 0
    end = pull(f"ms:{REPO}")
    assert isinstance(end, Downloaded)
    assert sum(hubs.sent.values()) <= 1.1 * end.total_bytes


def test_check_41_hugging_face_keeps_the_files_that_are_finished(hubs: StubHubs) -> None:
    hubs.add(REPO, {**repository(), "model-00002-of-00002.safetensors": weights(1_500_000, 9)})
    hubs.bytes_per_second = 1_000_000
    run = Pull(f"hf:{REPO}").start()
    run.wait_for_bytes(600_000)
    run.download.pause()
    assert isinstance(run.end(), DownloadPaused)
    hubs.sent.clear()
    hubs.bytes_per_second = 0
    assert isinstance(pull(f"hf:{REPO}"), Downloaded)
    assert set(hubs.sent) == {SHARDS[1]}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_cancel_ends_within_two_seconds_and_leaves_nothing(
    address: str, hubs: StubHubs, tmp_path: Path
) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 600_000
    run = Pull(address).start()
    run.wait_for_bytes(50_000)
    before = time.monotonic()
    run.download.cancel()
    assert isinstance(run.end(), DownloadCancelled)
    assert time.monotonic() - before < 2.0
    assert not list(tmp_path.rglob("*.safetensors*"))
    assert left_over(tmp_path) == []


def test_check_38_the_download_ends_with_the_process_that_wanted_it(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 400_000
    words = "import sys, time; from tests.engine.hub.pulling import Pull; run = Pull(sys.argv[1]).start();"
    words += "run.wait_for_bytes(1); print(run.download.pid, flush=True); time.sleep(60)"
    command = [sys.executable, "-c", words, f"hf:{REPO}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_check_47_wanting_a_download_imports_no_library_of_a_hub() -> None:
    words = "import sys, engine; engine.Download(engine.parse_repository('hf:a/b'), print);"
    words += "print({'huggingface_hub', 'modelscope', 'modelscope_hub', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_address_says_the_hub_and_the_revision() -> None:
    assert parse_repository("owner/name").address == "hf:owner/name"
    assert parse_repository("ms:owner/name@v1").address == "ms:owner/name@v1"
