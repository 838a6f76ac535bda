"""Files that are either whole or not there, folders that can be written to, and checksums."""

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from shutil import disk_usage, rmtree
from tempfile import TemporaryDirectory

from ebjr_det.core.errors import ConfigError, InvalidInput, first_line

UNUSABLE = (OSError, ValueError)
"""What the system raises for a path, ValueError for a name that no file can have."""


@contextmanager
def _system_asked(expected: str, refusals: tuple[type[Exception], ...] = (OSError,)) -> Iterator[None]:
    """Raises InvalidInput with the reason where the system refuses what is done within."""
    try:
        yield
    except refusals as error:
        raise InvalidInput(f"Expected {expected}: {first_line(error)}.") from error


@contextmanager
def atomic_write(path: Path, writer: str = "") -> Iterator[Path]:
    """Yield a temporary file beside `path`; it takes that name only when the block ends well.

    After a crash, a kill or Ctrl-C `path` holds what it held before. The file has the permissions of any new
    file of the user, those that the umask leaves: none are set, which some mounts do not allow.

    Args:
        writer: stands in the temporary name.

    Raises:
        InvalidInput: the system refuses, for example because the disk is full.
    """
    temporary = path.with_name(f".{path.stem[:50]}-{writer}{token_hex(4)}{path.suffix}")
    with _system_asked(f"to write `{path}`, got"):
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            with temporary.open("rb") as written:
                _flush(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _flush(handle: int) -> None:
    """Bring a file to the disk, where the file system can do that."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def write_text(path: Path, text: str) -> None:
    """Write a whole UTF-8 text file, or nothing."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def writable_folder(path: Path) -> Path:
    """Make the folder if it is not there and prove that a file can be written in it.

    Raises:
        InvalidInput: it is a file, or the system refuses.
    """
    with _system_asked(f"a folder that can be written to, got `{path}`", UNUSABLE):
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    return path


@contextmanager
def replaced_folder(
    out: Path, names: Sequence[str], noun: str, is_earlier: Callable[[Path], bool]
) -> Iterator[Path]:
    """Yield a folder to write to; when the block ends well, its entries replace all that `out` holds.

    Until then, and where the block fails or is killed, `out` keeps what it held. Entries that begin with a
    dot do not count.

    Args:
        names: of the entries, the first of which tells that all are there: it goes first and comes last; the
            others go in this order and come in the reverse. See `coming` for where it is meanwhile.
        noun: the entries are, one word.
        is_earlier: whether an entry, which has one of the names, is of an earlier such folder and may go.

    Raises:
        ConfigError: `out` holds other files. InvalidInput: the system refuses.
    """
    is_new = not out.exists()
    check_replaceable(out, names, noun, is_earlier)
    folder = writable_folder(out)
    _clear_dead(folder, noun)
    try:
        with TemporaryDirectory(dir=folder, prefix=f".{noun}-{os.getpid()}-") as temporary:
            yield Path(temporary)
            _swap(Path(temporary), folder, names, noun)
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def coming(folder: Path, noun: str, name: str) -> Path:
    """The path of a `replaced_folder`'s first entry from before the others go until they have come."""
    return folder / f".{noun}.{name}"


def check_replaceable(out: Path, names: Sequence[str], noun: str, is_earlier: Callable[[Path], bool]) -> None:
    """Raises EbjrError where `replaced_folder` would refuse the folder; leaves nothing behind."""
    check_writable(out)
    entries = sorted(out.iterdir()) if out.is_dir() else ()
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    if foreign := [entry.name for entry in visible if entry.name not in names or not is_earlier(entry)]:
        raise ConfigError(
            f"Expected an empty --out or an earlier {noun}, got other files in `{out}`, such as "
            f"`{foreign[0]}`."
        )


def _swap(fresh: Path, folder: Path, names: Sequence[str], noun: str) -> None:
    first, *later = names
    mark = coming(folder, noun, first)
    with _system_asked(f"to write to `{folder}`, got"):
        (fresh / first).replace(mark)
        for name in names:
            _remove(folder / name)
        for name in reversed(later):
            if (fresh / name).exists():
                (fresh / name).replace(folder / name)
        mark.replace(folder / first)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear_dead(folder: Path, noun: str) -> None:
    """Remove what a killed process has left of such a folder."""
    for entry in folder.glob(f".{noun}-*-*"):
        if is_dead(entry.name.split("-")[1]):
            rmtree(entry, ignore_errors=True)


def is_dead(process: str) -> bool:
    """Whether it is the number of a process that this machine surely does not run."""
    return process.isdecimal() and not Path(f"/proc/{process}").exists() and Path("/proc/self").exists()


def check_writable(path: Path) -> None:
    """Prove that a folder is there, or can be made, and can be written to; leaves nothing behind.

    Raises:
        InvalidInput: it is a file, or the system refuses.
    """
    with _system_asked(f"a folder that can be written to, got `{path}`", UNUSABLE):
        tempfile.TemporaryFile(dir=path if path.is_dir() else _nearest(path)).close()


def check_empty(path: Path) -> None:
    """Raises EbjrError for a folder with files in it, or one that cannot be made or written to."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigError(f"Expected an empty --out, got files in `{path}`.")
    check_writable(path)


def check_space(path: Path, needed: int) -> None:
    """Raises InvalidInput where the disk of a folder, there or to come, has less room than that."""
    free = disk_usage(_nearest(path)).free
    if free < needed:
        raise InvalidInput(
            f"Expected about {needed / 1e6:,.0f} MB of free disk for what goes to `{path}`, got "
            f"{free / 1e6:,.0f} MB. Make room, or choose another --out."
        )


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), path)


def existing_file(path: Path, noun: str) -> Path:
    """`path` if it is a file that can be read. Raises InvalidInput that names `noun` and the path."""
    with _system_asked(f"{noun} at `{path}`, got", UNUSABLE), path.open("rb"):
        return path


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file's content."""
    with existing_file(path, "a file").open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest()


def shipped(kind: str) -> Path:
    """The project's own `checkpoints` or `configs`: beside the package, in a wheel inside it."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / kind
    return checkout if checkout.is_dir() else package / "shipped" / kind


def to_json(content: object, *, pretty: bool = True) -> str:
    """JSON without infinities or NaN. Raises ValueError for them: they must have been given a name."""
    return json.dumps(content, allow_nan=False, indent=2 if pretty else None)


@contextmanager
def json_list(path: Path) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """A function that adds an entry to a JSON list, which is written as it grows, an entry a line."""
    with atomic_write(path) as temporary, temporary.open("w") as file:
        separator = "["

        def add(entry: Mapping[str, object]) -> None:
            nonlocal separator
            file.write(f"{separator}\n{json.dumps(entry, allow_nan=False)}")
            separator = ","

        yield add
        file.write("[]\n" if separator == "[" else "\n]\n")
