"""The student's scores on the teacher's scale.

AP ranks both models' boxes together, so a score of 0.3 must mean the same from both. Each model's scores are
calibrated to the share of IoU thresholds at which a box is a true positive; the map takes a student's score
to the teacher's score of the same calibrated worth. It rises strictly within every class, so that neither the
student's own AP nor its matching changes. Source: MoCaE (arXiv 2309.14976) calibrates before it mixes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from ebjr_det.core.errors import InvalidInput, check_known
from ebjr_det.core.types import FloatArray, Matches, Output
from ebjr_det.tasks.detection.boxes import logits_of_scores
from ebjr_det.tasks.detection.coco.matching import IOU_THRESHOLDS

KNOTS = np.linspace(-21.0, 21.0, 169)  # logits; those of all scores lie inside
SLOPE = 1e-3  # of a flat stretch, so that no two scores become one
RARE = 50.0  # boxes' worth of evidence (sum of p (1 - p)) at which a class's own shift counts half


@dataclass(frozen=True)
class Rescaling:
    """A strictly rising map of logits for each class: [classes, KNOTS], straight between the knots."""

    values: FloatArray

    @classmethod
    def of(cls, values: FloatArray, classes: int) -> "Rescaling":
        """From saved numbers. Raises InvalidInput for another shape, or a map that does not rise."""
        if values.shape != (classes, len(KNOTS)) or not (np.diff(values, axis=1) > 0).all():
            raise InvalidInput(f"Expected a rising map of scores for {classes} classes, got another.")
        return cls(values)

    def scores(self, scores: FloatArray, labels: NDArray[np.intp]) -> FloatArray:
        """Scores [n] of boxes of classes [n], mapped."""
        f = logits_of_scores(scores)
        knot = np.clip(np.searchsorted(KNOTS, f, side="right") - 1, 0, len(KNOTS) - 2)
        low, high = self.values[labels, knot], self.values[labels, knot + 1]
        return np.asarray(expit(low + (high - low) * (f - KNOTS[knot]) / (KNOTS[1] - KNOTS[0])))

    def records(self, matches: Matches) -> Matches:
        """The student's match records, mapped; who matches what stays as it is."""
        return {**matches, "score": self.scores(matches["score"], matches["label"].astype(np.intp))}

    def output(self, output: Output) -> Output:
        """The student's answers, mapped; its logits and features stay as they are."""
        return _rescored(output, self.scores)

    def undone(self, output: Output) -> Output:
        """The answers that `output` mapped, as they were."""
        return _rescored(output, self._original)

    def _original(self, scores: FloatArray, labels: NDArray[np.intp]) -> FloatArray:
        f = logits_of_scores(scores)
        for label in np.unique(labels):
            rows = labels == label
            f[rows] = np.interp(f[rows], self.values[label], KNOTS)
        return np.asarray(expit(f))


def _rescored(output: Output, scores: Callable[[FloatArray, NDArray[np.intp]], FloatArray]) -> Output:
    answers = [replace(answer, scores=scores(answer.scores, answer.labels)) for answer in output.predictions]
    return replace(output, predictions=answers)


@dataclass(frozen=True)
class _Scored:
    """A model's boxes as calibration sees them: logit, share of IoU thresholds matched, class, weight."""

    f: FloatArray
    hit: FloatArray
    label: NDArray[np.intp]
    weight: FloatArray

    @classmethod
    def of(cls, matches: Matches) -> "_Scored":
        """Boxes weigh as AP weighs their class, by 1 / n_c; those that COCO ignores are left out."""
        bits = np.uint64(1) << np.arange(len(IOU_THRESHOLDS), dtype=np.uint64)
        counted = (matches["ignored"][:, None] & bits == 0).all(axis=1)
        hit = (matches["matched"][:, None] & bits != 0).mean(axis=1)
        label = matches["label"].astype(np.intp)
        weight = 1.0 / (matches["truths"][:, :, 0].sum(axis=0) + 3.0)[label]
        f = logits_of_scores(matches["score"])
        return cls(f[counted], hit[counted], label[counted], weight[counted])

    def line(self) -> tuple[float, float]:
        """a, b of the calibration P(hit) = sigmoid(a + b f), b > 0, by logistic regression (Platt 1999)."""
        from sklearn.linear_model import LogisticRegression

        # every box twice, as a hit and as a miss, each by its share
        weight = np.concatenate([self.hit, 1 - self.hit]) * np.tile(self.weight, 2) + 1e-12
        f, hit = np.tile(self.f, 2)[:, None], np.repeat([1, 0], len(self.f))
        model = LogisticRegression(C=1e6).fit(f, hit, sample_weight=weight)
        return float(model.intercept_[0]), max(float(model.coef_[0, 0]), 0.05)

    def shifts(self, a: float, b: float, classes: int) -> FloatArray:
        """[classes] what each class adds to a: one Newton step, drawn to 0 where a class has few boxes."""
        p = expit(a + b * self.f)
        excess = np.bincount(self.label, self.hit - p, minlength=classes)
        return np.asarray(excess / (np.bincount(self.label, p * (1 - p), minlength=classes) + RARE))

    def steps(self) -> FloatArray:
        """[KNOTS] P(hit) by isotonic regression, with a slight slope."""
        from sklearn.isotonic import IsotonicRegression

        model = IsotonicRegression(out_of_bounds="clip").fit(self.f, self.hit, sample_weight=self.weight)
        return np.asarray(model.predict(KNOTS) + SLOPE * np.linspace(0, 1, len(KNOTS)))


def _shift(student: _Scored, teacher: _Scored, classes: int) -> FloatArray:
    """One shift d, f + d: the student's boxes are then as right on average as the teacher's line says."""
    from scipy.optimize import brentq

    c, d = teacher.line()

    def excess(shift: float) -> float:
        return float((student.weight * (expit(c + d * (student.f + shift)) - student.hit)).sum())

    root = brentq(excess, -30, 30) if excess(-30) < 0 < excess(30) else 0.0
    return np.tile(KNOTS + root, (classes, 1))


def _affine(student: _Scored, teacher: _Scored, classes: int) -> FloatArray:
    """(a + b f - c) / d, the lines of both calibrations being a + b f and c + d f."""
    (a, b), (c, d) = student.line(), teacher.line()
    return np.tile((a + b * KNOTS - c) / d, (classes, 1))


def _by_class(student: _Scored, teacher: _Scored, classes: int) -> FloatArray:
    """`affine` with a shift of its own for every class, where it has the boxes to tell it."""
    (a, b), (c, d) = student.line(), teacher.line()
    shifts = student.shifts(a, b, classes) - teacher.shifts(c, d, classes)
    return np.asarray(((a + b * KNOTS - c) + shifts[:, None]) / d)


def _isotonic(student: _Scored, teacher: _Scored, classes: int) -> FloatArray:
    """The teacher's logit at which its isotonic calibration reaches the student's."""
    mapped = np.interp(student.steps(), teacher.steps(), KNOTS)
    return np.tile(mapped + SLOPE * KNOTS, (classes, 1))


RESCALINGS: Mapping[str, Callable[[_Scored, _Scored, int], FloatArray] | None] = {
    "none": None,
    "shift": _shift,
    "affine": _affine,
    "affine_by_class": _by_class,
    "isotonic": _isotonic,
}
"""How a student's scores come on the teacher's scale, the simplest first."""


def fit_rescaling(name: str, student: Matches, teacher: Matches) -> Rescaling | None:
    """The map from match records of both models on the same pictures; None for `none`.

    Raises:
        ConfigError: an unknown name. InvalidInput: a model without boxes that count.
    """
    check_known(name, RESCALINGS, "a known rescaling")
    fit = RESCALINGS[name]
    if fit is None:
        return None
    scored = {"student": _Scored.of(student), "teacher": _Scored.of(teacher)}
    for side, boxes in scored.items():
        if not len(boxes.f):
            raise InvalidInput(f"Expected boxes of the {side} to calibrate its scores on, got none.")
    return Rescaling(fit(scored["student"], scored["teacher"], student["truths"].shape[1]))
