"""What hubs, disks and networks do wrong, and what a download says then."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import list_models
from engine.downloads import DownloadCancelled, Downloaded, DownloadFailed
from engine.hub.staging import FOLDER
from tests.engine.hub.pulling import (
    ADDRESSES,
    REPO,
    SHARDS,
    Pull,
    content,
    lead_to,
    left_over,
    listed,
    pull,
    repository,
)
from tests.stub_hubs import StubHubs

SILENCE_LIMITS = ("HF_HUB_DOWNLOAD_TIMEOUT", "MODELSCOPE_DOWNLOAD_TIMEOUT")


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


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_hub_that_refuses_the_rest_of_a_file_mixes_nothing(address: str, hubs: StubHubs) -> None:
    """416: what is here may be of another file, so the file comes anew, now or with the next try."""
    hubs.add(REPO, repository(600_000))
    hubs.cuts[SHARDS[0]] = 1
    hubs.refused_ranges = 1
    end = pull(address)
    if isinstance(end, DownloadFailed):
        assert end.hint
        assert listed() == set()
        end = pull(address)
    assert isinstance(end, Downloaded)
    assert hubs.refused_ranges == 0
    assert content(end.model.folder)[SHARDS[0]] == repository(600_000)[SHARDS[0]]


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_hub_that_refuses_every_rest_ends_in_a_model_or_a_sentence(
    address: str, hubs: StubHubs
) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.cuts[SHARDS[0]] = 1
    hubs.refused_ranges = 99
    end = pull(address)
    if isinstance(end, DownloadFailed):
        assert (end.error, listed()) == ("HubUnreachable", set())
        assert end.hint
    hubs.refused_ranges = 0
    assert isinstance(pull(address), Downloaded)


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_connection_that_goes_silent_is_given_up_and_gone_on_with(
    address: str, hubs: StubHubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in SILENCE_LIMITS:
        monkeypatch.setenv(variable, "1")
    hubs.add(REPO, repository(600_000))
    hubs.hangs[SHARDS[0]] = 1
    started = time.monotonic()
    end = pull(address)
    assert isinstance(end, Downloaded)
    assert hubs.hangs[SHARDS[0]] == 0
    assert 1 <= time.monotonic() - started < 20
    assert content(end.model.folder)[SHARDS[0]] == repository(600_000)[SHARDS[0]]


def test_check_41_a_silent_hub_does_not_hold_up_a_cancel(hubs: StubHubs, tmp_path: Path) -> None:
    hubs.add(REPO, repository(600_000))
    hubs.hangs[SHARDS[0]] = 99
    run = Pull(f"ms:{REPO}").start()
    run.wait_for_bytes(800_000)
    started = time.monotonic()
    run.download.cancel()
    assert isinstance(run.end(), DownloadCancelled)
    assert time.monotonic() - started <= 2
    assert left_over(tmp_path) == []


@pytest.fixture
def untrusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHubs]:
    """Hubs behind TLS with a certificate that nobody signed."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    file = tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key = tmp_path / "key.pem"
    subprocess.run([*made, *name, "-keyout", key, "-out", file], check=True, capture_output=True)
    file.write_bytes(file.read_bytes() + key.read_bytes())
    with StubHubs(certificate=file) as stub:
        lead_to(stub, tmp_path, monkeypatch)
        yield stub


@pytest.mark.parametrize("address", ADDRESSES)
def test_check_41_a_certificate_that_nobody_vouches_for_is_refused_with_a_sentence(
    address: str, untrusted: StubHubs
) -> None:
    untrusted.add(REPO, repository())
    end = pull(address)
    assert isinstance(end, DownloadFailed)
    assert end.error == "HubUnreachable"
    assert "certificate" in f"{end.message} {end.hint}"
    assert not untrusted.sent
    assert not untrusted.headers


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
    hubs.bytes_per_second = 1_500_000
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
def test_an_unknown_repository_and_an_unknown_revision_are_named(
    address: str, hubs: StubHubs, tmp_path: Path
) -> None:
    hubs.add(REPO, repository())
    for wanted in (f"{address[:3]}nobody/nothing", f"{address}@v9"):
        end = pull(wanted)
        assert isinstance(end, DownloadFailed)
        assert end.error == "UnknownRepository"
        assert wanted.rpartition("/")[2].rpartition("@")[2] in end.message
    assert left_over(tmp_path) == []


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
