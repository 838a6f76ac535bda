"""A column of pictures in a parquet file."""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ebjr_det.bulk.storage import open_at
from ebjr_det.core.errors import InvalidInput

NAMES = ("image", "picture", "img", "jpg", "png", "bytes", "path", "file_name", "file", "url")
"""Names by which a column of pictures is known, the first that is there."""
PIECE, BUFFER = 64, 2**20
"""Rows and bytes that are read at a time: groups of rows may be as large as the file."""


class ParquetColumn:
    """The column of pictures of a parquet file, read forwards by pieces.

    Args:
        name: path or address of the file.
        column: by default the only one whose values are bytes, or have them as `bytes`, as data sets of
            Hugging Face do; else the first of `NAMES` that has these, or texts.

    Attributes:
        name: of the column; `is_text`: whether its values are paths and addresses; `rows`: how
            many; `path`: of the file.

    Raises:
        InvalidInput: there is no such column.
    """

    def __init__(self, name: str, column: str = "") -> None:
        self.path = name
        self.opened = open_at(name)  # read by pages: buffered before, a group would be there at once
        self.file = pq.ParquetFile(self.opened, buffer_size=BUFFER, pre_buffer=False)
        self.name = _column(self.file.schema_arrow, name, column)
        self.is_text = _is_text(self.file.schema_arrow.field(self.name).type)
        metadata = self.file.metadata
        self.pieces: Iterator[pa.RecordBatch] = iter(())
        self.rows = metadata.num_rows
        groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self.starts: list[int] = np.cumsum([0, *groups]).tolist()
        self.group, self.first, self.piece = -1, 0, pa.array([])

    def close(self) -> None:
        """Close the file."""
        self.opened.close()

    def __iter__(self) -> Iterator[object]:
        """All values in order."""
        return (self[row] for row in range(self.rows))

    def __getitem__(self, row: int) -> object:
        """The value of a row; a row before the last piece is looked for from the start of its group.

        Raises:
            InvalidInput: the file does not have so many.
        """
        group = bisect_right(self.starts, row) - 1
        if row < self.rows and (row < self.first or group != self.group):
            self._begin(group)
        while row >= self.first + len(self.piece):
            self.first += len(self.piece)
            piece = next(self.pieces, None) if row < self.rows else None
            if piece is None:
                raise InvalidInput(
                    f"Expected a row {row} in `{self.path}`, got fewer: it has changed or is damaged."
                )
            self.piece = piece.column(0)
        return self.piece[row - self.first].as_py()

    def _begin(self, group: int) -> None:
        self.pieces = self.file.iter_batches(PIECE, [group], [self.name], use_threads=False)
        self.group, self.first, self.piece = group, self.starts[group], pa.array([])


def _column(schema: pa.Schema, name: str, chosen: str) -> str:
    """The column of pictures. Raises InvalidInput where there is none."""
    content = [field.name for field in schema if _is_bytes(field.type)]
    texts = [field.name for field in schema if _is_text(field.type)]
    if chosen:
        names = [column for column in (chosen,) if column in content + texts]
    elif len(content) == 1:
        names = content
    else:
        names = [column for columns in (content, texts) for column in NAMES if column in columns]
    if not names:
        hint = f"`{chosen}`" if chosen else f"such as {', '.join(NAMES)}, or --column"
        raise InvalidInput(
            f"Expected a column of pictures in `{name}`, {hint}, as bytes or as paths, got "
            f"{', '.join(schema.names)}."
        )
    return names[0]


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(index).name for index in range(kind.num_fields)]
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
