"""Answers to the pictures of a shard as a table: one row a picture, in order."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ebjr_det.bulk.manifest import Row, as_text
from ebjr_det.bulk.storage import Storage
from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import Array, Opaque
from ebjr_det.tasks.contract import Classes, Tensors
from ebjr_det.tasks.tensors import TensorForm, Values

FOLDER = "answers"
JOB, SHARD, DEFERRED, UNREADABLE = (
    b"ebjr_det.job",
    b"ebjr_det.shard",
    b"ebjr_det.deferred",
    b"ebjr_det.unreadable",
)
"""What the footer of a shard's file tells: the job's digest, the shard's number, and counts of its rows."""
COUNTS = "counts"
COLUMNS = {
    "index": "number of the picture in the job, from 0",
    "picture": "its name: a path or address, `FILE.tar/NAME`, or `FILE.parquet#ROW` with the row from 0",
    "error": "why it cannot be read, and then all that follows is null; else null",
    "width": "in pixels, of the picture turned as its camera says",
    "height": "likewise",
    "answered_by": "`student` or `teacher`",
    "deferral_score": "what decided: deferred above the threshold in `job.json`; of what a router in front "
    "sent on, that router's score",
}
"""What the columns before those of a task's answer mean."""
IN_FRONT = "in_front"
"""Column of a pair with a router in front of its student: whether that has sent the picture on."""
TYPES = {"FP32": pa.float32(), "FP64": pa.float64(), "INT64": pa.int64(), "BYTES": pa.string()}


@dataclass
class PictureAnswer:
    """What is known of one picture so far.

    Attributes:
        width, height: in pixels, turned as its camera says.
        score: the deferral score, of the front where that has sent it on; `deferred`: whether the teacher
            answers.
        error: why it cannot be read, else empty.
    """

    row: Row
    width: int = 0
    height: int = 0
    score: float = 0.0
    deferred: bool = False
    prediction: Opaque = None
    error: str = ""
    in_front: bool = False


@dataclass(frozen=True)
class ShardCounts:
    """How many pictures a shard has, how many the teacher answered, and how many cannot be read."""

    rows: int
    deferred: int
    unreadable: int

    def __add__(self, counts: "ShardCounts") -> "ShardCounts":
        return ShardCounts(
            self.rows + counts.rows, self.deferred + counts.deferred, self.unreadable + counts.unreadable
        )

    @classmethod
    def of(cls, answers: Sequence[PictureAnswer]) -> "ShardCounts":
        """The counts of an answered shard."""
        deferred = sum(answer.deferred and not answer.error for answer in answers)
        return cls(len(answers), deferred, sum(bool(answer.error) for answer in answers))


def shard_file(index: int) -> str:
    """The name of a shard's file.

    >>> shard_file(7)
    'answers/00000007.parquet'
    """
    return f"{FOLDER}/{index:08d}.parquet"


def to_table(
    answers: Sequence[PictureAnswer],
    first: int,
    tensors: Tensors,
    named: Classes | None,
    fronted: bool = False,
) -> pa.Table:
    """A table with a row for each picture; the columns of an answer are null where there is none.

    Args:
        first: number of the first picture in the job.
        fronted: whether it tells what a router in front of the student has sent on.
    """
    readable = [answer for answer in answers if not answer.error]
    columns: dict[str, pa.Array] = {
        "index": pa.array(range(first, first + len(answers)), pa.int64()),
        "picture": pa.array([answer.row.title for answer in answers], pa.string()),
        "error": pa.array([as_text(answer.error) or None for answer in answers], pa.string()),
    }
    answered = {
        "width": pa.array([answer.width for answer in readable], pa.int32()),
        "height": pa.array([answer.height for answer in readable], pa.int32()),
        "answered_by": pa.array(
            ["teacher" if answer.deferred else "student" for answer in readable], pa.string()
        ),
        "deferral_score": pa.array([answer.score for answer in readable], pa.float64()),
        **({IN_FRONT: pa.array([answer.in_front for answer in readable], pa.bool_())} if fronted else {}),
        **answer_columns([answer.prediction for answer in readable], tensors, named),
    }
    ranks = iter(range(len(readable)))
    places = pa.array([None if answer.error else next(ranks) for answer in answers], pa.int64())
    return pa.table(columns | {name: column.take(places) for name, column in answered.items()})


def column_meanings(tensors: Tensors, named: Classes | None = None) -> Iterator[tuple[str, str, str]]:
    """Name, type and meaning of each column of a task's table."""
    meanings = COLUMNS | {form.name: form.meaning for form in tensors.forms(named)}
    for field in to_table([], 0, tensors, named).schema:
        yield field.name, str(field.type), meanings[field.name]


def answer_columns(
    predictions: Sequence[Opaque], tensors: Tensors, named: Classes | None
) -> dict[str, pa.Array]:
    """The named tensors of predictions, a value or a list a picture."""
    forms = tensors.forms(named)
    values: Mapping[str, Values] = tensors.to_tensors(predictions, named) if predictions else {}
    counts = values.get(COUNTS)
    ragged = any(form.name == COUNTS for form in forms)
    ends = np.cumsum([0, *(counts if counts is not None else ())]).astype(np.int32)
    columns = {}
    for form in forms:
        if form.name == COUNTS:
            continue
        column = _values(values.get(form.name, ()), form)
        columns[form.name] = pa.ListArray.from_arrays(pa.array(ends), column) if ragged else column
    return columns


def _values(values: Values | Sequence[object], form: TensorForm) -> pa.Array:
    """A tensor's first axis as an array: numbers, texts, or lists of numbers."""
    kind = TYPES[form.datatype]
    if len(form.shape) == 1:
        return pa.array(values, kind)
    rows: Array = np.asarray(values).reshape(len(values), -1) if len(values) else np.empty((0, 0))
    flat = pa.array(rows.ravel(), kind)
    if form.shape[1] > 0:
        return pa.FixedSizeListArray.from_arrays(flat, form.shape[1])
    ends = np.arange(0, rows.size + 1, rows.shape[1] or 1, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat)


def write_shard(storage: Storage, index: int, table: pa.Table, job: str, counts: ShardCounts) -> None:
    """Write the table of a shard, whose footer tells which job's it is."""
    footer = {
        JOB: job, SHARD: str(index), DEFERRED: str(counts.deferred), UNREADABLE: str(counts.unreadable),
    }  # fmt: skip
    with storage.create(shard_file(index)) as file:
        pq.write_table(table.replace_schema_metadata(footer), file, compression="zstd")


def read_counts(storage: Storage, index: int, job: str) -> ShardCounts:
    """What the footer of a shard's file tells.

    Raises:
        InvalidInput: it is of another job, or damaged.
    """
    name = shard_file(index)
    with storage.open(name) as file:
        try:
            metadata = pq.read_metadata(file)
        except pa.ArrowException as error:
            raise InvalidInput(
                f"Expected a whole shard at `{storage.url}/{name}`, got: {first_line(error)}. Remove it; the "
                "same command makes it anew."
            ) from error
    footer = metadata.metadata or {}
    if (footer.get(JOB), footer.get(SHARD)) != (job.encode(), str(index).encode()):
        raise of_another_job(storage, name)
    return ShardCounts(metadata.num_rows, int(footer[DEFERRED]), int(footer[UNREADABLE]))


def of_another_job(storage: Storage, name: str) -> InvalidInput:
    """What is said of a file that is no shard of the job."""
    return InvalidInput(
        f"Expected a shard of this job at `{storage.url}/{name}`, got one of another job or version. "
        "Choose another --out."
    )
