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
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import list_models, parse_repository
from engine.downloads import (
    DownloadCancelled,
    Downloaded,
    DownloadFailed,
    DownloadListed,
    DownloadPaused,
    DownloadProgress,
    DownloadStage,
)
from engine.hub.staging import FOLDER
from tests.engine.hub.pulling import (
    ADDRESSES,
    REPO,
    SHARDS,
    WANTED,
    Pull,
    content,
    pull,
    repository,
    until,
    weights,
)
from tests.stub_hubs import StubHubs

SEED = random.SystemRandom().randrange(2**32)


def listed() -> set[str]:
    """Names of the models in the hubs' caches that can be loaded as far as is known."""
    return {model.ref.name for model in list_models() if model.ref.hub and not model.problem}


def installed() -> Path:
    """The folder of the only model in the hubs' caches."""
    (folder,) = (model.ref.folder for model in list_models() if model.ref.hub)
    return folder


def left_over(folder: Path) -> list[Path]:
    """What a finished download must not leave."""
    patterns = (FOLDER, "*.incomplete", "*.lock", ".links-*", "*.tmp")
    return [path for pattern in patterns for path in folder.rglob(pattern)]


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
    hubs.add(REPO, repository(1_500_000))
    hubs.bytes_per_second = 1_000_000
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
    hubs.add(REPO, {**repository(), "model-00002-of-00002.safetensors": weights(2_000_000, 9)})
    hubs.bytes_per_second = 1_000_000
    run = Pull(f"hf:{REPO}").start()
    run.wait_for_bytes(900_000)
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
    hubs.bytes_per_second = 200_000
    run = Pull(address).start()
    run.wait_for_bytes(50_000)
    before = time.monotonic()
    run.download.cancel()
    assert isinstance(run.end(), DownloadCancelled)
    assert time.monotonic() - before < 2.0
    assert not list(tmp_path.rglob("*.safetensors*"))
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_flipped_byte_is_fetched_once_more_and_then_refused(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.flips[SHARDS[1]] = 1
    assert isinstance(pull(address), Downloaded)
    hubs.add(REPO, repository(seed=7))
    hubs.flips[SHARDS[1]] = 99
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert (end.error, SHARDS[1] in end.message) == ("ChecksumMismatch", True)
    models = [model.ref.folder for model in list_models() if model.ref.hub]
    assert [(folder / SHARDS[1]).read_bytes() for folder in models] == [repository()[SHARDS[1]]]


def test_check_41_a_flipped_byte_of_a_small_file_is_refused_too(hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.flips["tokenizer.json"] = 99
    end = pull(f"hf:{REPO}")
    assert isinstance(end, DownloadFailed)
    assert (end.error, listed()) == ("ChecksumMismatch", set())


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_connection_that_breaks_is_gone_on_with(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.cuts[SHARDS[0]] = 1
    end = pull(address)
    assert isinstance(end, Downloaded)
    assert hubs.sent[SHARDS[0]] <= 1.1 * len(repository(600_000)[SHARDS[0]])


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_hub_that_knows_no_ranges_sends_the_file_anew(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.knows_ranges = False
    hubs.cuts[SHARDS[0]] = 1
    assert isinstance(pull(address), Downloaded)


def test_check_41_a_redirect_loop_ends_in_a_sentence(hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.loops = True
    end = pull(f"hf:{REPO}")
    assert isinstance(end, DownloadFailed)
    assert end.error == "HubUnreachable"


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_repository_that_changes_on_the_way_is_never_mixed(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.bytes_per_second = 1_000_000
    run = Pull(address).start()
    run.wait_for_bytes(200_000)
    hubs.add(REPO, repository(600_000, seed=9))
    hubs.bytes_per_second = 0
    # A commit stays what it was; a branch does not, and then its new files are not those of the listing.
    end = run.end()
    assert isinstance(end, Downloaded | DownloadFailed)
    again = pull(address)
    assert isinstance(again, Downloaded)
    assert content(again.model.folder)[SHARDS[0]] == repository(600_000, seed=9)[SHARDS[0]]


def test_check_41_a_repository_of_ten_thousand_files_is_listed_at_once(hubs: StubHubs) -> None:
    hubs.add(REPO, {**repository(), **{f"data/{number}.json": b"{}" for number in range(10_000)}})
    assert isinstance(pull(f"hf:{REPO}"), Downloaded)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("name", ["../../out.safetensors", "/tmp/out.safetensors", "a/../../b.json"])
def test_check_28_a_path_that_leads_out_is_refused_before_anything_is_fetched(
    address: str, name: str, hubs: StubHubs, tmp_path: Path
) -> None:
    hubs.add(REPO, repository())
    hubs.claimed_names[SHARDS[0]] = name
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert (end.error, name in end.message) == ("UnsafeListing", True)
    assert not hubs.sent
    assert not list(tmp_path.rglob("*out*"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_disk_without_room_is_refused_before_anything_is_fetched(
    address: str, hubs: StubHubs
) -> None:
    hubs.add(REPO, repository())
    hubs.claimed_sizes[SHARDS[0]] = 2**45
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "DiskFull"
    assert "32768.0 GiB" in end.message
    assert not hubs.sent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    disk = tmp_path / "small"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(disk)]
    if os.getuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_disk_that_fills_on_the_way_is_a_sentence_and_can_be_gone_on_with(
    address: str, hubs: StubHubs, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HF_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(variable, str(small_disk))
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 1_000_000
    run = Pull(address).start()
    run.wait_for_bytes(100_000)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError):
        filler.write_bytes(bytes(6 * 2**20))
    end = run.end()
    assert isinstance(end, DownloadFailed)
    assert end.error == "DiskFull"
    filler.unlink()
    hubs.bytes_per_second = 0
    assert isinstance(pull(address), Downloaded)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_gated_model_says_what_to_do(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.gated.add(REPO)
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "AccessDenied"
    assert "login`" in end.hint


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_unknown_repository_and_an_unknown_revision_are_named(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    for wanted in (f"{address[:3]}nobody/nothing", f"{address}@v9"):
        end = pull(wanted)
        assert isinstance(end, DownloadFailed)
        assert end.error == "UnknownRepository"
        assert wanted.rpartition("/")[2].rpartition("@")[2] in end.message


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_network_is_a_sentence_with_the_next_step(address: str, hubs: StubHubs) -> None:
    hubs.close()
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "HubUnreachable"
    assert "proxy" in end.hint


@pytest.mark.parametrize("status", [401, 429, 500])
def test_a_hub_that_refuses_is_a_sentence(status: int, hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.statuses = [status] * 9
    end = pull(f"hf:{REPO}")
    assert isinstance(end, DownloadFailed)
    assert end.error in {"UnknownRepository", "AccessDenied", "HubUnreachable"}
    assert listed() == set()


def test_offline_mode_of_the_library_is_named(hubs: StubHubs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    end = pull(f"hf:{REPO}")
    assert isinstance(end, DownloadFailed)
    assert "HF_HUB_OFFLINE" in end.message


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_26_a_repository_of_pickles_is_refused_and_none_is_fetched(
    address: str, hubs: StubHubs
) -> None:
    files = repository()
    hubs.add(REPO, {path: files[path] for path in ("config.json", "pytorch_model.bin", "modeling_owner.py")})
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "NothingToLoad"
    assert "convert" in end.message
    assert not hubs.sent


@pytest.mark.parametrize("address", ADDRESSES)
def test_weights_without_a_checksum_are_refused(address: str, hubs: StubHubs) -> None:
    hubs.add(REPO, repository())
    hubs.without_checksums = True
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "ChecksumMismatch"
    assert not hubs.sent


def test_check_41_a_second_downloader_of_the_same_model_is_told(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 500_000
    first = Pull(f"ms:{REPO}").start()
    first.wait_for_bytes(100_000)
    second = pull(f"ms:{REPO}")
    assert isinstance(second, DownloadFailed)
    assert second.error == "DownloadBusy"
    hubs.bytes_per_second = 0
    assert isinstance(first.end(), Downloaded)


def test_what_was_forgotten_is_swept_and_what_is_paused_is_not(hubs: StubHubs, tmp_path: Path) -> None:
    hubs.add(REPO, repository())
    for name, age in (("old", 15), ("paused", 13)):
        folder = tmp_path / "hf" / FOLDER / name
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        then = time.time() - age * 86400
        os.utime(folder / "lock", (then, then))
    assert isinstance(pull(f"hf:{REPO}"), Downloaded)
    assert [folder.name for folder in (tmp_path / "hf" / FOLDER).iterdir()] == ["paused"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_42_no_token_is_shown_or_sent_to_another_host(
    address: str, hubs: StubHubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "hf_canary0123456789"
    for name in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(name, canary)
    monkeypatch.setenv("HF_DEBUG", "1")
    monkeypatch.setenv("MODELSCOPE_LOG_LEVEL", "DEBUG")
    hubs.add(REPO, repository())
    hubs.redirects_to = "localhost"
    run = Pull(address).start()
    assert isinstance(run.end(), Downloaded)
    asked = {host.partition(":")[0] for host, _ in hubs.headers}
    assert asked == {"127.0.0.1", "localhost"}
    sent_to = {host.partition(":")[0] for host, headers in hubs.headers if canary in repr(headers)}
    assert sent_to == {"127.0.0.1"}
    hubs.gated.add(REPO)
    hubs.add(REPO, repository(seed=8))
    run.events.append(pull(address))
    assert canary not in repr(run.events)
    assert all(canary.encode() not in found for found in content(tmp_path).values())


def test_check_38_the_download_ends_with_the_process_that_wanted_it(hubs: StubHubs) -> None:
    hubs.add(REPO, repository(1_000_000))
    hubs.bytes_per_second = 100_000
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
