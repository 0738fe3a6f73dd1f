from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sessions import SessionStore, StorageFailed, UnsafePlace
from sessions.files import create_file, secure_file, secure_folder

OTHER = 12345
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_missing_parents_are_made_for_their_owner(tmp_path: Path) -> None:
    before = mode(tmp_path)
    secure_folder(tmp_path / "a" / "b")
    assert [mode(tmp_path / "a"), mode(tmp_path / "a" / "b"), mode(tmp_path)] == [0o700, 0o700, before]


def test_loose_old_files_and_folders_are_tightened(file: Path) -> None:
    with SessionStore(file) as store:
        store.create().result()
    kept = file.with_name("sessions.db.damaged-1")
    kept.touch()
    loose = [file, file.with_name("sessions.db-journal"), kept]
    for path in loose:
        path.chmod(0o666)
    file.parent.chmod(0o777)
    with SessionStore(file):
        assert [mode(path) for path in loose] == [0o600] * 3
        assert mode(file.parent) == 0o700


@needs_root
@pytest.mark.parametrize("name", ["", "sessions.db", "sessions.db-journal"])
def test_what_belongs_to_another_person_is_refused(file: Path, name: str) -> None:
    with SessionStore(file) as store:
        store.create().result()
    os.chown(file.parent / name, OTHER, OTHER)
    with pytest.raises(UnsafePlace, match=str(OTHER)):
        SessionStore(file).open()


@pytest.mark.parametrize("name", ["sessions.db", "sessions.db-journal", "sessions.db-wal"])
def test_a_symbolic_link_in_place_of_a_file_is_refused(file: Path, name: str, tmp_path: Path) -> None:
    secure_folder(file.parent)
    target = tmp_path / "target"
    (file.parent / name).symlink_to(target)
    with pytest.raises(UnsafePlace, match="symbolic link"):
        SessionStore(file).open()
    assert not target.exists()


def test_a_linked_folder_where_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "public").mkdir()
    (tmp_path / "public").chmod(0o1777)
    link = tmp_path / "public" / "data"
    link.symlink_to(tmp_path / "own")
    with pytest.raises(UnsafePlace, match="another person could"):
        SessionStore(link / "sessions.db").open()
    assert not list((tmp_path / "own").iterdir())


def test_a_link_of_ones_own_to_a_larger_disk_is_followed(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "large")
    with SessionStore(tmp_path / "data" / "sessions.db"):
        assert mode(tmp_path / "large") == 0o700


def test_a_public_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(UnsafePlace, match="Everyone"):
        SessionStore(tmp_path / "sessions.db").open()
    assert mode(tmp_path) == 0o1777


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(UnsafePlace, match="not a folder"):
        secure_folder(tmp_path / "data")
    with pytest.raises(StorageFailed):
        secure_folder(tmp_path / "data" / "below")


def test_a_new_file_is_for_its_owner_and_never_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new"
    old = os.umask(0)
    try:
        os.close(create_file(path))
    finally:
        os.umask(old)
    assert mode(path) == 0o600
    with pytest.raises(FileExistsError):
        create_file(path)
    secure_file(tmp_path / "missing")
