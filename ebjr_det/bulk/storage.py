"""Where the files of a job go: a folder of this machine, or any address that fsspec knows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from ebjr_det.core.errors import EbjrError, InvalidInput, first_line
from ebjr_det.io.files import atomic_write, writable_folder

SHARED_BY_NOBODY = ("memory",)
"""Protocols whose files one process alone sees."""


@contextmanager
def reached(expected: str) -> Iterator[None]:
    """Raises InvalidInput with the reason for whatever a file system raises within."""
    try:
        yield
    except EbjrError:
        raise
    except Exception as error:  # each protocol has errors of its own
        raise InvalidInput(f"Expected {expected}, got: {first_line(error)}.") from error


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
            self.fs, root = url_to_fs(self.url)
        self.root = str(root).rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_shared(self) -> bool:
        """Whether other processes see the same files."""
        protocols = [self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol
        return not set(protocols).intersection(SHARED_BY_NOBODY)

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
        """A file to write to, which is there when the block ends well; its folders are made."""
        if self.is_local:
            path = Path(self._at(name))
            folder = writable_folder(path.parent)
            with atomic_write(folder / path.name) as temporary, temporary.open("wb") as file:
                yield file
            return
        with reached(f"to write `{self.url}/{name}`"):
            self.fs.makedirs(self._at(name).rpartition("/")[0], exist_ok=True)
            with self.fs.open(self._at(name), "wb") as file:
                yield file

    @contextmanager
    def open(self, name: str) -> Iterator[Any]:
        """A file to read, which can seek."""
        with reached(f"a file at `{self.url}/{name}`"), self.fs.open(self._at(name), "rb") as file:
            yield file

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/") if name else self.root
