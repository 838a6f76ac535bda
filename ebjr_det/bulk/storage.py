"""Where the files of a job go: a folder of this machine, or any address that fsspec knows."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ebjr_det.core.errors import ConfigError, EbjrError, InvalidInput, first_line
from ebjr_det.io.files import atomic_write, check_writable, is_dead, writable_folder

SHARED_BY_NOBODY = ("memory",)
"""Protocols whose files one process alone sees."""

WRITER = re.compile(r"\.[^-]+-(.+)-(\d+)-[0-9a-f]{8}\.\w+")
"""Machine and process in the name of an unfinished file."""


@contextmanager
def reached(expected: str) -> Iterator[None]:
    """Raises InvalidInput with the reason for whatever a file system raises within."""
    try:
        yield
    except EbjrError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise InvalidInput(f"Expected {expected}, got: {first_line(error)}.") from error


def locate(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it; what has no protocol is a path of this machine."""
    if "://" not in address:
        return LocalFileSystem(), address
    fs, path = url_to_fs(address)
    return fs, str(path)


def is_local(fs: Any) -> bool:
    """Whether a file system is that of this machine."""
    return isinstance(fs, LocalFileSystem)


def protocols_of(fs: Any) -> set[str]:
    """The names by which addresses call a file system."""
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def open_at(address: str) -> Any:
    """A file to read, which can seek."""
    fs, path = locate(address)
    return open(path, "rb") if is_local(fs) else fs.open(path, "rb")


class Storage:
    """A folder at an address, whose files are whole or not there.

    A file of this machine takes its name when it is written; an object store shows an object when all of it
    has come.

    Args:
        url: as fsspec takes it, such as `s3://bucket/folder`, or a path.

    Raises:
        InvalidInput: an unknown protocol, or a package of it that is missing.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or "/"
        with reached(f"an address that can be written to, got `{url}`"):
            self.fs, root = locate(url)
        self.root = root.rstrip("/") or "/" * is_local(self.fs) * len(root)
        if not self.root:
            raise ConfigError(f"Expected an --out that names a folder, got `{url}`.")
        self.made: set[str] = set()

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return is_local(self.fs)

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""
        return not protocols_of(self.fs).intersection(SHARED_BY_NOBODY)

    def check(self, source: str) -> None:
        """Prove, as far as that can be known before, that answers can be written; leaves nothing behind.

        Raises:
            ConfigError: they would be among the pictures. InvalidInput: the system refuses.
        """
        if self.is_local:
            folder, (fs, pictures) = Path(self.root), locate(source)
            among = is_local(fs) and folder.resolve().is_relative_to(Path(pictures).resolve())
            if among and os.path.isdir(pictures):
                raise ConfigError(
                    f"Expected an --out outside of the pictures in `{source}`, got `{self.url}`."
                )
            check_writable(folder)
        else:
            self.names()

    def prepare(self) -> None:
        """Make the folder, without what killed writers have left."""
        self._make("")
        self.clear()

    def clear(self) -> None:
        """Remove what writers of this machine have left that were killed."""
        if self.is_local:
            for path in (entry for pattern in (".*", "*/.*") for entry in Path(self.root).glob(pattern)):
                writer = WRITER.fullmatch(path.name)
                if writer and writer[1] == platform.node() and is_dead(writer[2]):
                    path.unlink(missing_ok=True)

    def names(self, folder: str = "") -> list[str]:
        """The names of the files and folders in a folder, sorted; none where it is not there.

        Names that begin with a dot, which unfinished files have, are left out.
        """
        with reached(f"to list `{self.url}/{folder}`"):
            self.fs.invalidate_cache()
            path = self._at(folder)
            entries = self.fs.ls(path, detail=False) if self.fs.isdir(path) else []
        names = (str(entry).rstrip("/").rpartition("/")[2] for entry in entries)
        return sorted(name for name in names if not name.startswith("."))

    @contextmanager
    def create(self, name: str) -> Iterator[IO[bytes]]:
        """A file to write to, which is there when the block ends well; its folder is made."""
        path = self._at(name)
        self._make(name.rpartition("/")[0])
        if self.is_local:
            writer = f"{platform.node()}-{os.getpid()}-"
            with atomic_write(Path(path), writer) as temporary, temporary.open("wb") as file:
                yield file
            return
        content = BytesIO()
        yield content
        with reached(f"to write `{self.url}/{name}`"):  # at once: a file that is closed early would be there
            self.fs.pipe_file(path, content.getvalue())

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file to read, which can seek."""
        with reached(f"a file at `{self.url}/{name}`"), self.fs.open(self._at(name), "rb") as file:
            yield file

    def _make(self, folder: str) -> None:
        if folder in self.made:
            return
        if self.is_local:
            writable_folder(Path(self._at(folder)))
        else:
            with reached(f"a folder that can be written to, got `{self.url}`"), suppress(FileExistsError):
                if not self.fs.exists(self._at(folder)):  # without parents: one may be a bucket, misspelt
                    self.fs.mkdir(self._at(folder), create_parents=False)
        self.made.add(folder)

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/") if name else self.root
