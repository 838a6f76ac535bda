"""A fitted router of detectors: class counts, a rescaling of the student's scores, and a learned forest.

The forest predicts, for every class that the student found in a picture, what the class's AP gains when the
picture moves to the teacher, in units of one object; a picture's score is the sum, each class weighted by
what one object of it is worth. So classes learn from each other, and rare ones do not drown in noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import Array, FloatArray, Output, PairedRun
from ebjr_det.routing.forest import Forest
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.coco.accumulate import Rows, random_contexts
from ebjr_det.tasks.detection.coco.counts import TRAIN2017_IMAGES, published_counts
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.routing.box_scores import (
    BOX_SCORES,
    ClassCounts,
    box_score_of,
    box_scores,
    check_worth,
)
from ebjr_det.tasks.detection.routing.features import (
    KNOTS,
    NAMES,
    ClassHistory,
    ClassRows,
    class_rows,
    features_of,
)
from ebjr_det.tasks.detection.routing.fingerprints import (
    answer_numbers,
    fingerprints,
    prints_ahead,
    student_numbers,
)
from ebjr_det.tasks.detection.routing.fitted import LEARNED, LEARNED_FEATURES, SET_LEARNED, DetectionRouter
from ebjr_det.tasks.detection.routing.rescaling import RESCALINGS, Rescaling, fit_rescaling
from ebjr_det.tasks.routing import A_FITTED_ROUTER, Routing, TaskScore, fit_forest

VARIANTS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    f"{energy}_{label}": (energy, settings)
    for energy in ("free_energy", "joint_energy")
    for label, settings in (
        ("top1", {"top_k": 1, "aggregate": "mean"}),
        ("min", {"top_k": 10, "aggregate": "min"}),
        ("logsumexp", {"top_k": 10, "aggregate": "logsumexp"}),
        ("top100", {"top_k": 100, "aggregate": "mean"}),
    )
}
"""Other ways from the energies of boxes to that of a picture: name -> score and settings."""
LEAF, LEAVES, COLUMNS = 40, 450, 0.5
"""Of the trees: least rows of a leaf, about the most leaves of a tree (so that a decision takes as long
however much was fitted on), share of columns that a split sees."""


def _forests(tables: Sequence[ClassRows], run: PairedRun, history: ClassHistory, seed: int) -> list[Forest]:
    """For each table of the same rows, extremely randomised trees on what each class of each picture gains,
    in units of one object.
    """
    rows, seen = tables[0], history.seen
    gains = Rows.of(run.student, run.teacher).rewards(random_contexts(len(run), seed))
    in_objects = gains[rows.label, rows.image] * (seen[rows.label] + 1)
    annotated = seen[rows.label] > 0
    if not annotated.any():
        raise InvalidInput("Expected the student to find a class that is annotated, got none to learn from.")
    leaf = max(LEAF, int(annotated.sum()) // LEAVES)
    return [
        fit_forest(table.values[annotated], in_objects[annotated], seed, leaf, COLUMNS) for table in tables
    ]


class DetectionRouting(Routing):
    """Scores of boxes with class counts where these are known, and forests on what the student found."""

    PUBLISHED_GAP: ClassVar = dict(
        zip(
            (0.099, 0.172, 0.298, 0.397, 0.514, 0.826),
            (0.348, 0.515, 0.697, 0.792, 0.889, 0.975),
            strict=True,
        )
    )
    """Between D0 and D4, read off EBJR's COCO figure (arXiv 2110.10343); how boxes became a picture's energy
    is published nowhere."""
    SCORES: ClassVar = {
        **BOX_SCORES,
        LEARNED: TaskScore(
            "sum over classes of the predicted gain in AP",
            "extremely randomised trees on AP rewards",
            A_FITTED_ROUTER,
        ),
        LEARNED_FEATURES: TaskScore(
            "learned, from the student's energies and its own features as well",
            "extremely randomised trees on AP rewards; energies of Liu et al. 2020, arXiv 2010.03759",
            A_FITTED_ROUTER,
            features=True,
        ),
        SET_LEARNED: TaskScore(
            "learned, classes weighing as set_curvature weighs them",
            "learned, knowing the whole set",
            A_FITTED_ROUTER,
            whole_set=True,
        ),
    }
    RESCALINGS = tuple(RESCALINGS)
    RENAMED: ClassVar = {"class_doubt": "class_curvature", "set_doubt": "set_curvature"}
    RETIRED: ClassVar = {
        "doubt": "It is `energy_curvature` now, from the logits of all classes: choose its threshold anew."
    }
    SELECTS_BY = "class_curvature"
    VARIANTS = VARIANTS

    check_worth = staticmethod(check_worth)
    features_of = staticmethod(features_of)
    fingerprints = staticmethod(fingerprints)
    fingerprints_ahead = staticmethod(prints_ahead)
    student_numbers = staticmethod(student_numbers)
    answer_numbers = staticmethod(answer_numbers)

    def load_router(self, arrays: Mapping[str, Array]) -> DetectionRouter:
        """What `to_arrays` gave.

        Raises:
            InvalidInput: arrays that are no such router: other classes or columns, a map that falls.
        """
        try:
            history = ClassHistory(**_group(arrays, "history"))
            forest = Forest.of_arrays(_group(arrays, "forest"))
            nodes = _group(arrays, "forest_features")
            forest_features = Forest.of_arrays(nodes) if nodes else None
            worth, images = arrays["worth"], int(arrays["images"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"Expected the numbers of a detection router, got: {first_line(error)}."
            ) from error
        classes = history.seen.size
        shapes = {history.seen.shape, history.student.shape, history.teacher.shape, worth.shape}
        if shapes != {(classes,)} or {history.boxes.shape, history.objects.shape} != {(classes, len(KNOTS))}:
            raise InvalidInput(
                f"Expected numbers of {classes} classes in a detection router, got other shapes."
            )
        sound = (history.seen >= 0).all() and (worth >= 0).all() and worth.any() and images >= 1
        if forest.columns != len(NAMES) or not sound:
            raise InvalidInput(f"Expected a forest of {len(NAMES)} columns and counts, got others.")
        if forest_features is not None and forest_features.columns <= len(NAMES):
            raise InvalidInput(f"Expected a forest of features beside {len(NAMES)} columns, got one of none.")
        rescaling = Rescaling.of(arrays["rescaling"], classes) if "rescaling" in arrays else None
        counts = ClassCounts(history.seen, images, worth)
        return DetectionRouter(counts, history, forest, rescaling, forest_features)

    def fit_router(
        self, run: PairedRun, *, rescaling: str, worth: FloatArray, seed: int = 0, learn: bool = True
    ) -> DetectionRouter:
        """Fit everything on match records of both models on the same pictures, and the run's features.

        Args:
            rescaling: a key of `rescaling.RESCALINGS`.
            worth: [classes] what each class weighs in the metric.
            seed: of the random contexts and the trees.
            learn: without, there are no forests, and no annotated object but their numbers is looked at.
        """
        mapping = fit_rescaling(rescaling, run.student, run.teacher)
        student = run.student if mapping is None else mapping.records(run.student)
        boxes, task = Boxes.of_records(student), AveragePrecision()
        seen = student["truths"][:, :, 0].sum(axis=0).astype(np.float64)
        history = ClassHistory.of(boxes, seen, task.by_class(student)[:, 0], task.by_class(run.teacher)[:, 0])
        counts = ClassCounts(seen, boxes.images, worth)
        if not learn:
            return DetectionRouter(counts, history, None, mapping)
        rows = class_rows(boxes, history)
        tables = [rows] if run.features is None else [rows, rows.with_columns(run.features)]
        forests = _forests(tables, replace(run, student=student), history, seed)
        return DetectionRouter(counts, history, forests[0], mapping, *forests[1:])

    def judge(self, worth: FloatArray) -> AveragePrecision:
        """The task, judging by what classes are worth."""
        return AveragePrecision(None if (worth == 1).all() else worth)

    def plain_scores(self, output: Output, class_names: Sequence[str]) -> dict[str, FloatArray]:
        """Every score that needs no fit: with published counts where the classes are COCO's."""
        return box_scores(Boxes.of_predictions(output.predictions), self.published(class_names))

    def plain_scores_of_set(self, run: PairedRun, class_names: Sequence[str]) -> dict[str, FloatArray]:
        """Scores from a run's records, those too that look at the whole set."""
        return box_scores(Boxes.of_records(run.student), self.published(class_names), whole_set=True)

    def plain_score(self, name: str, output: Output, class_names: Sequence[str]) -> FloatArray:
        """One of `plain_scores` alone, for the live pair."""
        return box_score_of(name, Boxes.of_predictions(output.predictions), self.published(class_names))

    @staticmethod
    def published(class_names: Sequence[str]) -> ClassCounts | None:
        """COCO's published class counts where the classes are COCO's."""
        seen = published_counts(class_names)
        return None if seen is None else ClassCounts(seen, TRAIN2017_IMAGES, np.ones(len(seen)))

    def has_class_counts(self, class_names: Sequence[str]) -> bool:
        """Whether the classes are COCO's, whose counts were published."""
        return self.published(class_names) is not None


def _group(arrays: Mapping[str, Array], group: str) -> dict[str, Array]:
    return {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith(f"{group}/")}
