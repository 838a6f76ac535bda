"""A reader of pictures, wherever they are."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.bulk.columns import ParquetColumn
from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.sources import beside
from ebjr_det.bulk.storage import locate
from ebjr_det.core.errors import InvalidInput, Unreachable, first_line
from ebjr_det.io.encoded import PictureBytes
from ebjr_det.io.pictures import open_picture

if TYPE_CHECKING:
    from PIL.Image import Image

NOT_THERE = (FileNotFoundError, PermissionError, IsADirectoryError)
LATER = (408, 429)
"""Statuses of a server that is asked too much; of the others from 400 to 499 none mends itself."""


class PictureReader:
    """A reader of the rows of any source: `fetch` for those of a shard, then calls from any thread."""

    def __init__(self) -> None:
        self.column: ParquetColumn | None = None
        self.place = ("", "")
        self.values: dict[Row, object] = {}

    def fetch(self, rows: Iterable[Row]) -> None:
        """Read what is in parquet files, in order, and hold it, encoded as it is, until the next call.

        Raises:
            InvalidInput: a file that cannot be read.
        """
        self.values = {row: self._value(row) for row in rows if row.column}

    def __call__(self, row: Row) -> "Image":
        """The picture as RGB.

        Raises:
            InvalidInput: it cannot be read, or is not there. Unreachable: nobody can tell at the moment.
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
        if row.start < 0 and "://" not in row.path:
            return open_picture(Path(row.path))
        return open_picture(PictureBytes(_content(row), row.title))

    def _value(self, row: Row) -> object:
        if self.column is None or self.place != (row.file, row.column):
            if self.column is not None:
                self.column.close()
            self.column, self.place = ParquetColumn(row.file, row.column), (row.file, row.column)
        return self.column[row.start]


def _content(row: Row) -> bytes:
    """An encoded picture from a tar file or an address."""
    try:
        fs, path = locate(row.path)
        content = bytes(fs.cat_file(path, *((row.start, row.start + row.size) if row.start >= 0 else ())))
    except Exception as error:  # each protocol has errors of its own
        reason = first_line(error)
        status = getattr(error, "status", 0)
        if isinstance(error, NOT_THERE) or (400 <= status < 500 and status not in LATER):
            raise InvalidInput(f"Expected a readable picture, got `{row.title}`: {reason}.") from error
        raise Unreachable(
            f"Expected `{row.path}` to be read, got: {reason}. Nothing that is written is lost; the same "
            "command goes on."
        ) from error
    if row.start >= 0 and len(content) != row.size:
        raise Unreachable(
            f"Expected {row.size:,} bytes of `{row.path}` from {row.start:,} on, got {len(content):,}: it "
            "has changed, or its server gives no parts of files."
        )
    return content
