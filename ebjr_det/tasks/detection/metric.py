"""Detection judged: COCO's average precision, matched once per image, accumulated for any mix of images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Copies, FloatArray, Matches
from ebjr_det.tasks.detection.coco.accumulate import STATS, Rows, extreme_contexts, over_classes
from ebjr_det.tasks.detection.coco.annotations import Results, Truth
from ebjr_det.tasks.detection.coco.matching import match_images
from ebjr_det.tasks.detection.detections import Detections, to_sides

LARGEST = np.iinfo(np.uint16).max
LEAST = 1e-300  # a divisor where nothing weighs anything


class AveragePrecision:
    """The detection task. A prediction is a `Detections`, a target a `Target`; the quality is COCO's AP.

    A number that is the mean over no object at all, such as APs where nothing is small, is -1, as COCO's
    tools have it.
    """

    name = "detection"
    quality_name = "AP"
    table_metrics: tuple[str, ...] = STATS[:6]
    mean = False

    def __init__(self, worth: FloatArray | None = None) -> None:
        """`worth` [classes]: what classes weigh in every mean over them, by default all alike, as in COCO."""
        self.worth = worth

    def match(self, predictions: Sequence[Detections], targets: Sequence["Target"]) -> Matches:
        """Records of COCO's matching; see `matching.match_images` for the columns.

        Raises:
            InvalidInput: a label that is no class of the targets.
        """
        results = [Results(to_sides(answer.boxes), answer.scores, answer.labels) for answer in predictions]
        return match_records(results, [t.truth for t in targets], targets[0].classes)

    def metrics(self, matches: Matches) -> dict[str, float]:
        """COCO's twelve numbers, in pycocotools' order."""
        values = over_classes(self.by_class(matches), self.worth)
        return {name: float(value) for name, value in zip(STATS, values, strict=True)}

    def by_class(self, matches: Matches) -> FloatArray:
        """[classes, 12] the numbers of each class, -1 where it has no such object."""
        empty = {name: column[:0] for name, column in matches.items()}
        counts = np.zeros_like(matches["counts"])
        alone = Rows.of(matches, {**empty, "counts": counts, "truths": matches["truths"]})
        return alone.stats(np.arange(alone.images), np.zeros(1, dtype=np.intp))[:, 0]

    def composition(self, matches: Matches, classes: int | None = None) -> NDArray[np.uint16]:
        """Objects that count: annotated ones but crowds; see `types.Task`."""
        objects: NDArray[np.uint16] = matches["truths"][:, :, 0]
        if classes not in (None, objects.shape[1]):
            raise InvalidInput(f"Expected records of {classes} classes, got {objects.shape[1]}.")
        return objects

    def mixtures(self, student: Matches, teacher: Matches) -> "PooledRows":
        """Rows of both models, sorted once."""
        return PooledRows(Rows.of(student, teacher), self.worth)

    def right(self, matches: Matches) -> None:
        """An image is neither right nor wrong: AP pools the boxes of all images."""

    def take(self, matches: Matches, images: NDArray[np.intp]) -> Matches:
        """The records of some images."""
        counts = matches["counts"][images]
        ends = np.cumsum(matches["counts"])[images]
        rows = np.repeat(ends - np.cumsum(counts), counts) + np.arange(counts.sum())
        flat = {name: column[rows] for name, column in matches.items() if name not in ("counts", "truths")}
        return {"counts": counts, "truths": matches["truths"][images], **flat}


@dataclass(frozen=True)
class Target:
    """What an image's detections are judged by: its annotated objects, and how many classes there are."""

    truth: Truth
    classes: int


@dataclass(frozen=True)
class PooledRows:
    """`types.Mixtures` of two detectors."""

    rows: Rows
    worth: FloatArray | None = None

    def path(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """AP of the mixtures; see `types.Mixtures`."""
        return over_classes(self.rows.stats(order, deferred, copies, full=False)[..., 0], self.worth)

    def by_class(
        self, order: NDArray[np.intp], deferred: NDArray[np.intp], copies: Copies | None = None
    ) -> FloatArray:
        """AP of each class; see `types.Mixtures`."""
        return self.rows.stats(order, deferred, copies, full=False)[..., 0]

    def weighing(self, worth: FloatArray) -> "PooledRows":
        """Rows with other weights of classes."""
        return replace(self, worth=worth)

    def metrics(self, order: NDArray[np.intp], deferred: NDArray[np.intp]) -> dict[str, FloatArray]:
        """The twelve numbers of the mixtures, each [len(deferred)]."""
        values = over_classes(self.rows.stats(order, deferred), self.worth)
        return {name: values[:, index] for index, name in enumerate(STATS)}

    def reward(self) -> FloatArray:
        """What an image's move alone changes in AP, averaged over the two extreme contexts."""
        gains = self.rows.rewards(extreme_contexts(self.rows.images))
        annotated = self.rows.truths[:, :, 0].sum(axis=0) > 0
        weights = np.where(annotated, 1.0 if self.worth is None else self.worth, 0.0)
        return np.asarray((gains * weights[:, None]).sum(axis=0) / max(weights.sum(), LEAST))


def match_records(results: Sequence[Results], truths: Sequence[Truth], classes: int) -> Matches:
    """`match_images`, checked. Raises InvalidInput for a label that is no class, or too many to count."""
    count = max(classes, *(len(truth) for truth in truths))
    if count > LARGEST:
        raise InvalidInput(f"Expected at most {LARGEST:,} classes, and objects an image, got {count:,}.")
    largest = max((int(image.labels.max()) for image in results if len(image)), default=-1)
    if largest >= classes:
        raise InvalidInput(f"Expected labels in 0..{classes - 1}, got {largest}.")
    return match_images(results, truths, classes)
