"""The pair offline: both models see every image once, and what is kept is small.

Knows nothing about pictures, labels, boxes or metrics; see `joint` for the live pair.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import answers_of
from ebjr_det.core.types import FloatArray, Model, Output, PairedRun, Task
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.records import PartStore, join_runs

ScoresFunction = Callable[[Output], Mapping[str, FloatArray]]
FeaturesFunction = Callable[[Output], NDArray[np.float32] | None]


@dataclass(frozen=True)
class Batch:
    """One batch of a data set, preprocessed for both models by the loader."""

    image_ids: Sequence[str]
    student_inputs: Sequence[Any]
    teacher_inputs: Sequence[Any]
    targets: Sequence[Any]


def run_pair(
    student: Model,
    teacher: Model,
    batches_after: Callable[[str | None], Iterable[Batch]],
    total: int,
    *,
    task: Task,
    scores: ScoresFunction,
    parts: PartStore,
    features: FeaturesFunction = lambda output: None,
    flush_seconds: float = 5.0,
) -> PairedRun:
    """Run both models on every image once and keep only scores, match records and features.

    Streams: images and logits are dropped after their batch. Finished work goes to `parts` every
    `flush_seconds`; called again with the same parts, it starts behind the last image that is there and
    ends with the same result, to the bit, as a run without a break (batches start at the same images).

    Args:
        batches_after: id of the last image that is done, or None -> the batches from the next one on.
        total: number of images, for progress (shown on stderr with both models' rates and time left).
        scores: the student's answers -> named deferral scores.
        features: the student's answers -> numbers [images, m] that learned routers see, or None.

    Raises:
        InvalidInput: no images, duplicate ids, or logits that are not finite; the message names the batch.
    """
    done = parts.load()
    count = sum(len(part) for part in done)
    fresh: list[PairedRun] = []
    watch, flushed = Stopwatch(), monotonic()
    with tqdm(total=total, initial=count, unit="img", desc="evaluating", dynamic_ncols=True) as bar:
        last = done[-1].image_ids[-1] if done else None
        for batch in batches_after(last):
            fresh.append(_record(student, teacher, batch, task, scores, features, watch))
            images = bar.n - count + len(batch.image_ids)
            rates = (f"{side} {images / (1e-9 + spent):.0f}/s" for side, spent in watch.seconds.items())
            bar.set_postfix_str(", ".join(rates), False)
            bar.update(len(batch.image_ids))
            if monotonic() - flushed > flush_seconds:
                done, fresh, flushed = [*done, _flush(fresh, parts)], [], monotonic()
    if fresh:
        done.append(_flush(fresh, parts))
    if not done:
        raise InvalidInput("Expected at least one image, got an empty data set.")
    return join_runs(done)


def _record(
    student: Model,
    teacher: Model,
    batch: Batch,
    task: Task,
    scores: ScoresFunction,
    features: FeaturesFunction,
    watch: Stopwatch,
) -> PairedRun:
    try:
        seen_by_student = watch.time("student", answers_of, student, batch.student_inputs)
        seen_by_teacher = watch.time("teacher", answers_of, teacher, batch.teacher_inputs)
        return PairedRun(
            task.name,
            tuple(batch.image_ids),
            scores(seen_by_student),
            task.match(seen_by_student.predictions, batch.targets),
            task.match(seen_by_teacher.predictions, batch.targets),
            features=features(seen_by_student),
            abstains=seen_by_student.abstains,
        )
    except InvalidInput as error:
        first, last = batch.image_ids[0], batch.image_ids[-1]
        raise InvalidInput(f"{error} (In the batch of images `{first}` to `{last}`.)") from error


def _flush(fresh: Sequence[PairedRun], parts: PartStore) -> PairedRun:
    part = join_runs(fresh)
    parts.add(part)
    return part
