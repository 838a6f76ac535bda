"""Written files: whole or not there, with the user's own permissions, on any mount."""

import errno
import os
import stat
from pathlib import Path

import pytest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io import files
from ebjr_det.io.files import atomic_write, coming, replaced_folder, write_text


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


# --- Folders that are replaced as a whole ---


def replace(out, content, *, ours=Path.is_file, fail=None):
    """Write one folder of `mark`, `b` and the folder `c`."""
    with replaced_folder(out, ("mark", "b", "c"), "thing", ours) as folder:
        for name, text in content.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        if fail:
            raise fail


def content_of(out):
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    first, second = {"mark": "1", "b": "1", "c/1": "1", "c/2": "1"}, {"mark": "2", "c/1": "2"}
    replace(tmp_path / "out", first)
    assert content_of(tmp_path / "out") == first
    replace(tmp_path / "out", second, ours=lambda _: True)
    assert content_of(tmp_path / "out") == second


def test_a_folder_keeps_what_it_held_until_the_new_is_whole(tmp_path):
    first = {"mark": "1", "b": "1"}
    replace(tmp_path / "out", first)
    for error in (ValueError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            replace(tmp_path / "out", {"mark": "2"}, fail=error)
        assert content_of(tmp_path / "out") == first
        with pytest.raises(type(error)):
            replace(tmp_path / "new", {"mark": "2"}, fail=error)
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["notes.txt", "b"])
def test_a_folder_of_other_files_is_refused_before_the_work(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=f"got other files in `{tmp_path}`, such as `{name}`"):
        replace(tmp_path, {"mark": "1"}, ours=lambda _: False, fail=AssertionError())
    assert content_of(tmp_path) == {name: "mine"}


def test_a_replacement_that_is_killed_half_way_lacks_its_mark_and_is_filled_again(tmp_path, monkeypatch):
    replace(tmp_path, {"mark": "1", "b": "1"})
    real = Path.replace

    def killed(self, target):
        if target.name == "mark":
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            replace(tmp_path, {"mark": "2", "b": "2"})
    assert content_of(tmp_path) == {"b": "2", ".thing.mark": "2"}
    replace(tmp_path, {"mark": "3", "b": "3"})
    assert content_of(tmp_path) == {"mark": "3", "b": "3"}


def breaking(real, out, left, error):
    """`real`, which raises once it was called `left` times for an entry of a folder."""

    def call(*args):
        if any(Path(path).parent == out for path in args) and next(left, None) is None:
            raise error
        return real(*args)

    return call


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_whenever_a_replacement_breaks_off_a_mark_tells_whose_the_rest_is(tmp_path, monkeypatch, error):
    """Where entries are known by the mark alone, as those of an export are."""
    entries, broken = {"mark": "1", "b": "1", "c/1": "1"}, 0

    def marked(entry):
        return any(path.is_file() for path in (entry.parent / "mark", coming(entry.parent, "thing", "mark")))

    for count in range(9):
        out, left = tmp_path / str(count), iter(range(count))
        replace(out, entries)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", breaking(Path.replace, out, left, error))
            patch.setattr(files, "_remove", breaking(files._remove, out, left, error))
            try:
                replace(out, entries, ours=marked)
            except (KeyboardInterrupt, InvalidInput):
                broken += 1
        replace(out, entries, ours=marked)
        assert content_of(out) == entries
    assert broken == 7  # of four names that come and three that go


def test_what_a_killed_process_left_goes_and_what_a_running_one_writes_stays(tmp_path):
    dead, alive = tmp_path / ".thing-999999999-a", tmp_path / f".thing-{os.getpid()}-b"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "mark").touch()
    replace(tmp_path, {"mark": "1"})
    assert not dead.exists()
    assert alive.exists()
