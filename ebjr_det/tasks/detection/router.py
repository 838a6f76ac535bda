"""A fitted router of detectors: class counts, a rescaling of the student's scores, and a learned forest.

The forest predicts, for every class that the student found in a picture, what the class's AP gains when the
picture moves to the teacher, in units of one object; a picture's score is the sum, each class weighted by
what one object of it is worth. So classes learn from each other, and rare ones do not drown in noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import FloatArray, Matches, Output, PairedRun
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
from ebjr_det.tasks.detection.routing.rescaling import RESCALINGS, Rescaling, fit_rescaling

__all__ = [  # what the plugin of the task takes from here
    "answer_numbers", "check_worth", "features_of", "fingerprints", "fit_router", "load_router",
    "plain_scores", "prints_ahead", "published", "student_numbers",
]  # fmt: skip

LEARNED, LEARNED_FEATURES, SET_LEARNED = "learned", "learned_features", "set_learned"
FORMULAS = {name: (score.formula, score.source) for name, score in BOX_SCORES.items()} | {
    LEARNED: ("sum over classes of the predicted gain in AP", "extremely randomised trees on AP rewards"),
    LEARNED_FEATURES: (
        "learned, from the student's energies and its own features as well",
        "extremely randomised trees on AP rewards; energies of Liu et al. 2020, arXiv 2010.03759",
    ),
    SET_LEARNED: ("learned, classes weighing as set_doubt weighs them", "learned, knowing the whole set"),
}
"""Formula and source of every score that looks at boxes."""
NEEDS_ROUTER = dict.fromkeys([LEARNED, LEARNED_FEATURES, SET_LEARNED], "a fitted router") | {
    name: "class counts" for name, score in BOX_SCORES.items() if score.counts
}
WHOLE_SET = frozenset(name for name, score in BOX_SCORES.items() if score.whole_set) | {SET_LEARNED}
CANDIDATES = frozenset(name for name, score in BOX_SCORES.items() if score.candidates)
FEATURES = frozenset({LEARNED_FEATURES})
"""Scores that `features_of` makes possible."""
RESCALING_NAMES = tuple(RESCALINGS)
CHOOSES = "class_doubt"
"""The score by which rescalings are compared before anything is learned."""
COLUMNS_OF_SCORES: tuple[str, ...] = ()
"""Scores of logits that the learned routers see."""
TREES, LEAF, LEAVES, COLUMNS = 150, 40, 450, 0.5
"""Of the extremely randomised trees (Geurts et al. 2006): number, least rows of a leaf, about the most
leaves of a tree (so that a decision takes as long however much was fitted on), share of columns."""


@dataclass(frozen=True)
class DetectionRouter:
    """Everything that scores of fitted routers need.

    Attributes:
        counts: how rare and how dear classes are.
        history: what the learned router knows of each class.
        forest: of the rows of classes; `forest_features`: of the same beside `features.features_of`; None
            where nothing was learned, or the fit had no such features.
        rescaling: how the student's scores come on the teacher's scale, or None.
    """

    counts: ClassCounts
    history: ClassHistory
    forest: Forest | None
    rescaling: Rescaling | None
    forest_features: Forest | None = None

    @property
    def features(self) -> int:
        """How many numbers of `features_of` the router takes; 0 where it knows nothing of them."""
        return 0 if self.forest_features is None else self.forest_features.columns - len(NAMES)

    def rescale(self, output: Output) -> Output:
        """The student's answers with comparable scores."""
        return output if self.rescaling is None else self.rescaling.output(output)

    def rescale_records(self, matches: Matches) -> Matches:
        """The same for match records."""
        return matches if self.rescaling is None else self.rescaling.records(matches)

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Every score that a picture has on its own, by name, each [images]; `output` is rescaled."""
        boxes = Boxes.of_predictions(output.predictions)
        found = box_scores(boxes, self.counts) | self._learned(boxes, features_of(output))
        return found | {name: self.score(name, output) for name in CANDIDATES & found.keys()}

    def scores_of_set(self, run: PairedRun) -> dict[str, FloatArray]:
        """Every score that records allow, those of whole sets too; the student's are rescaled."""
        boxes = Boxes.of_records(run.student)
        learned = self._learned(boxes, run.features, whole_set=True)
        return box_scores(boxes, self.counts, whole_set=True) | learned

    def score(self, name: str, output: Output) -> FloatArray:
        """One of `scores` alone, for the live pair; `output` is rescaled.

        Match records hold no raw candidates, so a threshold for a score of these comes from a run of the
        student's own answers, and so must the score.

        Raises:
            InvalidInput: `learned_features` of a student that gives other features than that of the fit.
        """
        if name in CANDIDATES and self.rescaling is not None:
            output = self.rescaling.undone(output)
        boxes = Boxes.of_predictions(output.predictions)
        if name not in (LEARNED, LEARNED_FEATURES):
            return box_score_of(name, boxes, self.counts)
        rows, forest = class_rows(boxes, self.history), self.forest
        if name == LEARNED_FEATURES:
            rows, forest = rows.beside(self._features(output)), self.forest_features
        if forest is None:
            raise InvalidInput(f"Expected a router that learned `{name}`, got one that did not. Fit it anew.")
        return self._gain(forest, rows, boxes.images)

    def _features(self, output: Output) -> NDArray[np.float32]:
        """Those of the student, if they are as many as those of the fit."""
        features = features_of(output)
        if features.shape[1] != self.features:
            raise InvalidInput(
                f"Expected a student that gives {self.features} features, as that of the router's fit, got "
                f"one of {features.shape[1]}: the router was made for another student, or for a result file. "
                "Fit a router on these answers, or choose another score."
            )
        return features

    def _learned(
        self, boxes: Boxes, features: NDArray[np.float32] | None, *, whole_set: bool = False
    ) -> dict[str, FloatArray]:
        """What the forests predict; features of another student allow no score of theirs."""
        if self.forest is None:
            return {}
        rows = class_rows(boxes, self.history)
        found = {LEARNED: self._gain(self.forest, rows, boxes.images)}
        if whole_set:
            per_object = boxes.images * self.counts.in_set(boxes)
            found[SET_LEARNED] = self._gain(self.forest, rows, boxes.images, per_object)
        if self.forest_features is None or features is None or features.shape[1] != self.features:
            return found
        return found | {
            LEARNED_FEATURES: self._gain(self.forest_features, rows.beside(features), boxes.images)
        }

    def _gain(
        self, forest: Forest, rows: ClassRows, images: int, per_object: FloatArray | None = None
    ) -> FloatArray:
        """Predicted change of AP when an image moves to the teacher, times the fit's images, [images].

        Args:
            per_object: [classes] what one object weighs, by default `counts.per_object`.
        """
        weights = self.counts.per_object if per_object is None else per_object
        worth = weights[rows.label] / self.counts.worth.sum()
        gains = forest.predict(rows.values) if len(rows.label) else np.zeros(0)
        return np.bincount(rows.image, gains * worth, images).astype(np.float64)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays; `load_router` takes them back."""
        arrays = {f"history/{name}": value for name, value in self.history.__dict__.items()}
        arrays |= {"worth": self.counts.worth, "images": np.array(self.counts.images)}
        for group, forest in (("forest", self.forest), ("forest_features", self.forest_features)):
            if forest is not None:
                arrays |= {f"{group}/{name}": value for name, value in forest.to_arrays().items()}
        return arrays if self.rescaling is None else {**arrays, "rescaling": self.rescaling.values}


def load_router(arrays: Mapping[str, NDArray[Any]]) -> DetectionRouter:
    """What `to_arrays` gave.

    Raises:
        InvalidInput: arrays that are no such router: another number of classes or columns, a map that falls.
    """
    try:
        history = ClassHistory(**_group(arrays, "history"))
        forest = Forest.of_arrays(_group(arrays, "forest"))
        further = _group(arrays, "forest_features")
        forest_features = Forest.of_arrays(further) if further else None
        worth, images = arrays["worth"], int(arrays["images"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"Expected the numbers of a detection router, got: {first_line(error)}."
        ) from error
    classes, wide = history.seen.size, (history.seen.size, len(KNOTS))
    shapes = {history.seen.shape, history.student.shape, history.teacher.shape, worth.shape}
    if shapes != {(classes,)} or {history.boxes.shape, history.objects.shape} != {wide}:
        raise InvalidInput(f"Expected numbers of {classes} classes in a detection router, got other shapes.")
    if (
        forest.columns != len(NAMES)
        or (history.seen < 0).any()
        or not worth.any()
        or (worth < 0).any()
        or images < 1
    ):
        raise InvalidInput(f"Expected a forest of {len(NAMES)} columns and counts, got others.")
    if forest_features is not None and forest_features.columns <= len(NAMES):
        raise InvalidInput(f"Expected a forest of features beside {len(NAMES)} columns, got one of none.")
    rescaling = Rescaling.of(arrays["rescaling"], classes) if "rescaling" in arrays else None
    counts = ClassCounts(history.seen, images, worth)
    return DetectionRouter(counts, history, forest, rescaling, forest_features)


def fit_router(
    run: PairedRun, *, rescaling: str, worth: FloatArray, seed: int = 0, learn: bool = True
) -> DetectionRouter:
    """Fit everything on match records of both models on the same pictures, and the run's features.

    Args:
        rescaling: a key of `rescaling.RESCALINGS`.
        worth: [classes] what each class weighs in the metric.
        seed: of the random contexts and the trees.
        learn: without, there are no forests, and no annotated object but their numbers is looked at.
    """
    student, teacher = run.student, run.teacher
    mapping = fit_rescaling(rescaling, student, teacher)
    if mapping is not None:
        student = mapping.records(student)
    boxes, task = Boxes.of_records(student), AveragePrecision()
    seen = student["truths"][:, :, 0].sum(axis=0).astype(np.float64)
    history = ClassHistory.of(boxes, seen, task.by_class(student)[:, 0], task.by_class(teacher)[:, 0])
    counts = ClassCounts(seen, boxes.images, worth)
    if not learn:
        return DetectionRouter(counts, history, None, mapping)
    rows = class_rows(boxes, history)
    wide = [] if run.features is None else [rows.beside(run.features)]
    forest, *further = _forests([rows, *wide], replace(run, student=student), history, seed)
    return DetectionRouter(counts, history, forest, mapping, *further)


def _forests(tables: Sequence[ClassRows], run: PairedRun, history: ClassHistory, seed: int) -> list[Forest]:
    """For each table of the same rows, extremely randomised trees on what each class of each picture gains,
    in units of one object.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    rows, seen = tables[0], history.seen
    gains = Rows.of(run.student, run.teacher).rewards(random_contexts(len(run), seed))
    in_objects = gains[rows.label, rows.image] * (seen[rows.label] + 1)
    known = seen[rows.label] > 0
    if not known.any():
        raise InvalidInput("Expected the student to find a class that is annotated, got none to learn from.")
    leaf = max(LEAF, int(known.sum()) // LEAVES)
    trees = ExtraTreesRegressor(
        TREES, min_samples_leaf=leaf, max_features=COLUMNS, n_jobs=-1, random_state=seed
    )
    return [Forest.of(trees.fit(table.values[known], in_objects[known])) for table in tables]


def judge(worth: FloatArray) -> AveragePrecision:
    """The task, judging by what classes are worth."""
    return AveragePrecision(None if (worth == 1).all() else worth)


def plain_scores(output: Output, class_names: Sequence[str]) -> dict[str, FloatArray]:
    """Every score that needs no fit: with published counts where the classes are COCO's."""
    return box_scores(Boxes.of_predictions(output.predictions), published(class_names))


def plain_scores_of_set(run: PairedRun, class_names: Sequence[str]) -> dict[str, FloatArray]:
    """The same from a run's records, with the scores that look at the whole set."""
    return box_scores(Boxes.of_records(run.student), published(class_names), whole_set=True)


def plain_score(name: str, output: Output, class_names: Sequence[str]) -> FloatArray:
    """One of `plain_scores` alone, for the live pair."""
    return box_score_of(name, Boxes.of_predictions(output.predictions), published(class_names))


def published(class_names: Sequence[str]) -> ClassCounts | None:
    """COCO's published class counts where the classes are COCO's."""
    seen = published_counts(class_names)
    return None if seen is None else ClassCounts(seen, TRAIN2017_IMAGES, np.ones(len(seen)))


def _group(arrays: Mapping[str, NDArray[Any]], group: str) -> dict[str, NDArray[Any]]:
    return {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith(f"{group}/")}
