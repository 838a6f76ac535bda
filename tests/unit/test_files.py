"""Written files: whole or not there, with the user's own permissions, on any mount."""

import errno
import os
import stat
from pathlib import Path

import pytest

from ebjr_det.errors import InvalidInput
from ebjr_det.files import atomic_write, write_text


@pytest.fixture
def umask():
    """A function that sets the umask for the test."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640), (0o002, 0o664)]
)
def test_a_file_has_the_permissions_that_the_users_umask_leaves(tmp_path, umask, mask, expected):
    umask(mask)
    write_text(tmp_path / "a.json", "{}")
    (tmp_path / "plain").touch()
    assert mode(tmp_path / "a.json") == expected == mode(tmp_path / "plain")


def test_a_mount_without_permissions_can_be_written_to(tmp_path, monkeypatch):
    def refuse(*_args, **_named):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    for holder, name in ((os, "chmod"), (os, "fchmod"), (Path, "chmod")):
        monkeypatch.setattr(holder, name, refuse)
    write_text(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_mount_that_cannot_flush_can_be_written_to(tmp_path, monkeypatch, number):
    def refuse(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    write_text(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_a_disk_that_fills_up_at_the_end_leaves_what_was_there(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.json").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput, match="No space left"):
        write_text(tmp_path / "a.json", "{}")
    assert (tmp_path / "a.json").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    with atomic_write(tmp_path / "a") as first, atomic_write(tmp_path / "a") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"
