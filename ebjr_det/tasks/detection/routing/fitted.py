"""A fitted router of detectors: class counts, a rescaling of the student's scores, and learned forests."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, FloatArray, Matches, Output, PairedRun
from ebjr_det.routing.forest import Forest
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.detection.routing.box_scores import BOX_SCORES, ClassCounts, box_score_of, box_scores
from ebjr_det.tasks.detection.routing.features import (
    NAMES,
    ClassHistory,
    ClassRows,
    class_rows,
    features_of,
)
from ebjr_det.tasks.detection.routing.rescaling import Rescaling

LEARNED, LEARNED_FEATURES, SET_LEARNED = "learned", "learned_features", "set_learned"
CANDIDATES = frozenset(name for name, score in BOX_SCORES.items() if score.candidates)


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
        """Match records with comparable scores."""
        return matches if self.rescaling is None else self.rescaling.records(matches)

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Every score that a picture has on its own, by name, each [images]; `output` is rescaled."""
        boxes = Boxes.of_predictions(output.predictions)
        scores = box_scores(boxes, self.counts) | self._learned(boxes, features_of(output))
        return scores | {name: self.score(name, output) for name in CANDIDATES & scores.keys()}

    def scores_of_set(self, run: PairedRun, only: str = "") -> dict[str, FloatArray]:
        """Every score that records allow, those of whole sets too; the student's are rescaled.

        Args:
            only: the one score of boxes that is wanted, where it is.
        """
        boxes = Boxes.of_records(run.student)
        if only:
            return {only: box_score_of(only, boxes, self.counts)}
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
        if name not in (LEARNED, LEARNED_FEATURES, SET_LEARNED):
            return box_score_of(name, boxes, self.counts)
        rows, forest = class_rows(boxes, self.history), self.forest
        if name == LEARNED_FEATURES:
            rows, forest = rows.with_columns(self._features(output)), self.forest_features
        if forest is None:
            raise InvalidInput(f"Expected a router that learned `{name}`, got one that did not. Fit it anew.")
        per_object = self._in_set(boxes) if name == SET_LEARNED else None
        return self._gain(_predicted(forest, rows), rows, boxes.images, per_object)

    def _in_set(self, boxes: Boxes) -> FloatArray:
        """[classes] what one object weighs where these are all the pictures."""
        return boxes.images * self.counts.in_set(boxes)

    def _features(self, output: Output) -> NDArray[np.float32]:
        """The student's features, if they are as many as those of the fit."""
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
        gains = _predicted(self.forest, rows)
        scores = {LEARNED: self._gain(gains, rows, boxes.images)}
        if whole_set:
            scores[SET_LEARNED] = self._gain(gains, rows, boxes.images, self._in_set(boxes))
        if self.forest_features is not None and features is not None and features.shape[1] == self.features:
            wider = rows.with_columns(features)
            gains = _predicted(self.forest_features, wider)
            scores[LEARNED_FEATURES] = self._gain(gains, wider, boxes.images)
        return scores

    def _gain(
        self, gains: FloatArray, rows: ClassRows, images: int, per_object: FloatArray | None = None
    ) -> FloatArray:
        """Predicted change of AP when an image moves to the teacher, times the fit's images, [images].

        Args:
            gains: [rows] predicted, in units of one object.
            per_object: [classes] what one object weighs, by default `counts.per_object`.
        """
        weights = self.counts.per_object if per_object is None else per_object
        worth = weights[rows.label] / self.counts.worth.sum()
        return np.bincount(rows.image, gains * worth, images).astype(np.float64)

    def to_arrays(self) -> dict[str, Array]:
        """Named arrays; `load_router` takes them back."""
        arrays = {f"history/{name}": value for name, value in self.history.__dict__.items()}
        arrays |= {"worth": self.counts.worth, "images": np.array(self.counts.images)}
        for group, forest in (("forest", self.forest), ("forest_features", self.forest_features)):
            if forest is not None:
                arrays |= {f"{group}/{name}": value for name, value in forest.to_arrays().items()}
        return arrays if self.rescaling is None else {**arrays, "rescaling": self.rescaling.values}


def _predicted(forest: Forest, rows: ClassRows) -> FloatArray:
    """[rows] what a forest predicts of each, in units of one object."""
    return forest.predict(rows.values) if len(rows.label) else np.zeros(0)
