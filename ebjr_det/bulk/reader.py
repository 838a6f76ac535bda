"""A reader of pictures, wherever they are.

What is the fault of a picture is told from what is not: a picture is refused for good, and else the job ends.
"""

import os
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.bulk.columns import ParquetColumn
from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.sources import beside
from ebjr_det.bulk.storage import is_local, locate, protocols_of
from ebjr_det.core.errors import EbjrError, InvalidInput, Unreachable, first_line
from ebjr_det.io.encoded import PictureBytes
from ebjr_det.io.passing import is_passing
from ebjr_det.io.pictures import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
LATER = (401, 407, 408, 425, 429)
"""Statuses of a server that asks who one is, or is asked too much; of the others from 400 to 499 none mends
itself."""
WEB = ("http", "https")
"""Protocols without folders."""
FEW = 4
"""Pictures of a shard from which it is no chance that all of them are absent."""
GOES_ON = "Nothing that is written is lost; the same command goes on."


class PictureReader:
    """A reader of the rows of any source: `fetch` for those of a shard, then calls from any thread."""

    def __init__(self) -> None:
        self.column: ParquetColumn | None = None
        self.place = ("", "")
        self.values: dict[Row, object] = {}
        self.count, self.absent = 0, list[Row]()

    def fetch(self, rows: Iterable[Row]) -> None:
        """Read what is in parquet files, in order, and hold it, encoded as it is, until the next call.

        Raises:
            InvalidInput: a file that is damaged. Unreachable: one that is away.
        """
        rows = list(rows)
        self.count, self.absent = len(rows), []
        self.values = {row: self._value(row) for row in rows if row.column}

    def __call__(self, row: Row) -> "Image":
        """The picture as RGB.

        Raises:
            InvalidInput: it cannot be read, or is not there. Unreachable: nobody can tell at the moment; its
                folder is away, too; or all pictures of its shard are.
        """
        if row.column:
            value = self.values[row]
            content = value.get("bytes") if isinstance(value, dict) else value
            path = value.get("path") if isinstance(value, dict) else value
            if isinstance(content, bytes):
                return open_picture(PictureBytes(content, row.title))
            if not path:
                raise InvalidInput(f"Expected a readable picture, got `{row.title}` without one.")
            row = Row(beside(row.file, str(path)))
        try:
            if row.start < 0 and "://" not in row.path:
                return open_picture(Path(row.path))
            return open_picture(PictureBytes(_content(row), row.title))
        except InvalidInput as error:
            self._check_absent(row, error)
            raise

    def _check_absent(self, row: Row, error: InvalidInput) -> None:
        """Raises Unreachable where a picture is absent, and more than that picture."""
        if not (_is_final(error.__cause__) or isinstance(error.__cause__, PermissionError)):
            return
        self.absent.append(row)
        if isinstance(error.__cause__, FileNotFoundError) and _folder_is_away(row.path):
            raise Unreachable(
                f"Expected a picture, got neither `{row.title}` nor anything in its folder. {GOES_ON} Or "
                "leave it out of the source, for another --out."
            ) from error
        if len(self.absent) == self.count >= FEW:
            raise Unreachable(
                f"Expected pictures, got none of a shard's {self.count}: {error} {GOES_ON} Or leave them out "
                "of the source, for another --out."
            ) from error

    def _value(self, row: Row) -> object:
        try:
            if self.column is None or self.place != (row.file, row.column):
                if self.column is not None:
                    self.column.close()
                self.column, self.place = ParquetColumn(row.file, row.column), (row.file, row.column)
            return self.column[row.start]
        except EbjrError:
            raise
        except Exception as error:  # each protocol, and each way to be damaged, has errors of its own
            self.column, reason = None, first_line(error)
            away = "://" in row.file or is_passing(error) or isinstance(error, (*ABSENT, PermissionError))
            if away:
                raise Unreachable(f"Expected `{row.file}` to be read, got: {reason}. {GOES_ON}") from error
            raise InvalidInput(f"Expected a whole parquet file, got `{row.file}`: {reason}.") from error


def _content(row: Row) -> bytes:
    """An encoded picture from a tar file or an address."""
    try:
        fs, path = locate(row.path)
        content = bytes(fs.cat_file(path, *((row.start, row.start + row.size) if row.start >= 0 else ())))
    except Exception as error:  # each protocol has errors of its own
        reason = first_line(error)
        if row.start < 0 and _is_final(error):
            raise InvalidInput(f"Expected a readable picture, got `{row.title}`: {reason}.") from error
        raise Unreachable(
            f"Expected `{row.path}` to be read, got: {reason}. {GOES_ON} Or leave it out of the source, for "
            "another --out."
        ) from error
    if row.start >= 0 and len(content) != row.size:
        raise Unreachable(
            f"Expected {row.size:,} bytes of `{row.path}` from {row.start:,} on, got {len(content):,}: it "
            "has changed, or its server gives no parts of files."
        )
    return content


def _is_final(error: BaseException | None) -> bool:
    """Whether a file system says that a picture is not there, rather than that it cannot be had now."""
    status = getattr(error, "status", 0)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in LATER
    return refused or isinstance(error, ABSENT)


def _folder_is_away(name: str) -> bool:
    """Whether the folder of a file is not there, or empty as that of a mount is which is away."""
    try:
        fs, path = locate(name)
        if is_local(fs):
            with os.scandir(os.path.dirname(path) or ".") as entries:
                return next(entries, None) is None
        folder = posixpath.dirname(path)
        if folder in ("", "/") or protocols_of(fs).intersection(WEB):
            return False
        fs.invalidate_cache()
        return not fs.exists(folder)
    except PermissionError:  # of a folder that is there, and cannot be listed
        return False
    except Exception:  # each protocol has errors of its own
        return True
