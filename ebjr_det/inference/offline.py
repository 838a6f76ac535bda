"""The pair offline: both models see every image once, and what is kept is small.

Knows nothing about pictures, labels, boxes or metrics; see `joint` for the live pair.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import answers_of
from ebjr_det.core.tiers import TieredRun
from ebjr_det.core.types import FloatArray, Matches, Model, Opaque, Output, PairedRun, Task
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.records import Part, Parts

ScoresFunction = Callable[[Output], Mapping[str, FloatArray]]
FeaturesFunction = Callable[[Output], NDArray[np.float32] | None]
EstimateFunction = Callable[[Output, Output, Sequence[str]], Sequence[Opaque]]


@dataclass(frozen=True)
class Batch:
    """One batch of a data set, preprocessed by the loader for both models and those between them."""

    image_ids: Sequence[str]
    student_inputs: Sequence[Opaque]
    teacher_inputs: Sequence[Opaque]
    targets: Sequence[Opaque]
    between: Sequence[Sequence[Opaque]] = ()


@dataclass(frozen=True)
class Recorder:
    """A recorder of two models on batches, of which only scores, match records and features are kept.

    Attributes:
        scores: the student's answers -> named deferral scores.
        features: the student's answers -> numbers [images, m] that learned routers see, or None.
        estimate: both models' answers and the images' ids -> what stands in for their labels; None where
            there are labels.
    """

    student: Model
    teacher: Model
    task: Task
    scores: ScoresFunction
    features: FeaturesFunction = lambda output: None
    estimate: EstimateFunction | None = None

    def record(self, batch: Batch, watch: Stopwatch) -> PairedRun:
        """The batch's records. Raises InvalidInput, which names the batch, for logits that are not finite."""
        try:
            student = watch.time("student", answers_of, self.student, batch.student_inputs)
            teacher = watch.time("teacher", answers_of, self.teacher, batch.teacher_inputs)
            targets = batch.targets
            if self.estimate is not None:
                targets = self.estimate(student, teacher, batch.image_ids)
            return PairedRun(
                self.task.name,
                tuple(batch.image_ids),
                self.scores(student),
                self.task.match(student.predictions, targets),
                self.task.match(teacher.predictions, targets),
                features=self.features(student),
                abstains=student.abstains,
                estimated=self.estimate is not None,
            )
        except InvalidInput as error:
            first, last = batch.image_ids[0], batch.image_ids[-1]
            raise InvalidInput(f"{error} (In the batch of images `{first}` to `{last}`.)") from error


@dataclass(frozen=True)
class TieredRecorder:
    """A recorder of several models on batches.

    Attributes:
        models: by their names, in order.
        scores: by model, all but the last: its answers -> named deferral scores.
    """

    models: Mapping[str, Model]
    task: Task
    scores: Mapping[str, ScoresFunction]

    def record(self, batch: Batch, watch: Stopwatch) -> TieredRun:
        """The batch's records. Raises InvalidInput, which names tier and batch, for logits not finite."""
        records, scores = dict[str, Matches](), dict[str, Mapping[str, FloatArray]]()
        columns = (batch.student_inputs, *batch.between, batch.teacher_inputs)
        for (name, model), inputs in zip(self.models.items(), columns, strict=True):
            try:
                output = watch.time(name, answers_of, model, inputs)
                records[name] = self.task.match(output.predictions, batch.targets)
                if name in self.scores:
                    scores[name] = self.scores[name](output)
            except InvalidInput as error:
                first, last = batch.image_ids[0], batch.image_ids[-1]
                batch_name = f"tier `{name}`, in the batch of images `{first}` to `{last}`"
                raise InvalidInput(f"{error} (Of {batch_name}.)") from error
        return TieredRun(self.task.name, tuple(batch.image_ids), records, scores)


Part_co = TypeVar("Part_co", PairedRun, TieredRun, covariant=True)


class Records(Protocol[Part_co]):
    """What makes records of a batch."""

    def record(self, batch: Batch, watch: Stopwatch) -> Part_co:
        """The batch's records, while the models are timed."""


def run_pair(
    recorder: Records[Part],
    batches_after: Callable[[str | None], Iterable[Batch]],
    total: int,
    parts: Parts[Part],
    *,
    flush_seconds: float = 5.0,
) -> Part:
    """Run all models on every image once and keep only scores, match records and features.

    Streams: images and logits are dropped after their batch. Finished work goes to `parts` every
    `flush_seconds`; called again with the same parts, it starts behind the last image that is there and
    ends with the same result, to the bit, as a run without a break (batches start at the same images).

    Args:
        batches_after: id of the last image that is done, or None -> the batches from the next one on.
        total: number of images, for progress (shown on stderr with both models' rates and time left).

    Raises:
        InvalidInput: no images, duplicate ids, or logits that are not finite; the message names the batch.
    """
    saved: list[Part] = parts.load()
    resumed = sum(len(part) for part in saved)
    unsaved: list[Part] = []
    watch, flushed = Stopwatch(), monotonic()
    with tqdm(total=total, initial=resumed, unit="img", desc="evaluating", dynamic_ncols=True) as bar:
        for batch in batches_after(saved[-1].image_ids[-1] if saved else None):
            unsaved.append(recorder.record(batch, watch))
            images = bar.n - resumed + len(batch.image_ids)
            rates = (f"{side} {images / (1e-9 + spent):.0f}/s" for side, spent in watch.seconds.items())
            bar.set_postfix_str(", ".join(rates), False)
            bar.update(len(batch.image_ids))
            if monotonic() - flushed > flush_seconds:
                saved.append(_flush(unsaved, parts))
                unsaved, flushed = [], monotonic()
    if unsaved:
        saved.append(_flush(unsaved, parts))
    if not saved:
        raise InvalidInput("Expected at least one image, got an empty data set.")
    return parts.join(saved)


def _flush(runs: Sequence[Part], parts: Parts[Part]) -> Part:
    part = parts.join(runs)
    parts.add(part)
    return part
