from __future__ import annotations

import os
import stat
from pathlib import Path

from engine.log import MAX_LOG_BYTES, keep_short, open_log


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_log_is_private_in_a_private_folder(tmp_path: Path) -> None:
    path = tmp_path / "state" / "engine.log"
    os.close(open_log(path))
    assert (_mode(path), _mode(path.parent)) == (0o600, 0o700)


def test_a_loose_old_log_is_tightened_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_text("old\n")
    path.chmod(0o644)
    log = open_log(path)
    os.write(log, b"new\n")
    os.close(log)
    assert _mode(path) == 0o600
    assert path.read_text() == "old\nnew\n"


def test_a_long_log_makes_room_and_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    os.close(open_log(path))
    assert path.stat().st_size == 0
    assert (tmp_path / "engine.log.1").stat().st_size == MAX_LOG_BYTES + 1


def test_a_running_log_is_rotated_under_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    log = open_log(path)
    os.write(log, b"short\n")
    keep_short(path, log)
    assert path.read_bytes() == b"short\n"
    os.write(log, b"x" * (MAX_LOG_BYTES + 1))
    keep_short(path, log)
    os.write(log, b"after\n")
    os.close(log)
    assert path.read_bytes() == b"after\n"


def test_a_link_in_the_log_s_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "engine.log").symlink_to(target)
    log = open_log(tmp_path / "engine.log")
    os.write(log, b"text")
    os.close(log)
    assert not target.exists()


def test_a_log_that_cannot_be_is_no_reason_not_to_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (None, tmp_path / "file" / "engine.log"):
        log = open_log(path)
        assert os.write(log, b"text") == 4
        os.close(log)


def test_a_log_that_is_not_there_needs_no_rotation(tmp_path: Path) -> None:
    keep_short(tmp_path / "absent.log", 2)
    assert not (tmp_path / "absent.log").exists()
