"""Deferral scores that look at a detector's boxes: how much doubt, about what, in how crowded a picture?

One score = one small function of `Boxes` -> [images], higher = send to the teacher. s is a box's score, n_c
the number of objects of class c in N other pictures, v_c what the class is worth to the user. Sums run over
all boxes of an image; an image without boxes has the sum 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy.special import entr

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import FloatArray
from ebjr_det.tasks.detection.boxes import Boxes
from ebjr_det.tasks.routing import CLASS_COUNTS, TaskScore

Function: TypeAlias = Callable[..., FloatArray]

SMALL = 32.0**2  # square pixels
GREY = (0.1, 0.5)
SURE = 0.3


@dataclass(frozen=True)
class ClassCounts:
    """How rare and how dear each class is.

    Attributes:
        seen: [classes] objects of the class in other pictures: a calibration set, or published counts.
        images: how many pictures these were.
        worth: [classes] v_c, what the class weighs in the metric; COCO's mean weighs all alike.
    """

    seen: FloatArray
    images: int
    worth: FloatArray

    @property
    def per_object(self) -> FloatArray:
        """[classes] v_c N / (n_c + 1): what one object of the class adds to the metric, in units of an
        average picture's share; the 1 shrinks what rests on a few objects only. It does not grow with N, so
        that a threshold from N pictures holds for counts from more.
        """
        return np.asarray(self.worth * self.images / (self.seen + 1))

    def in_set(self, boxes: Boxes) -> FloatArray:
        """[classes] what an object adds in a known set: v_c (1 - exp(-m)) / m, m objects being expected.

        That is the mean of 1 / (1 + others), the others being Poisson with mean m. m mixes what the other
        pictures lead to expect with what the student's scores add up to in the set itself, each by its number
        of pictures.
        """
        scored = np.bincount(boxes.label, weights=boxes.score, minlength=len(self.seen))
        expected = (self.seen + scored + 0.5) * boxes.images / (self.images + boxes.images)
        return np.asarray(self.worth * -np.expm1(-expected) / expected)


@dataclass(frozen=True)
class BoxScore(TaskScore):
    """A registered score: `function` maps boxes, then class counts or support where it needs them, to scores
    [images].
    """

    function: Function = field(kw_only=True)

    @property
    def counts(self) -> bool:
        """Whether it needs class counts."""
        return self.needs == CLASS_COUNTS


BOX_SCORES: dict[str, BoxScore] = {}
"""Every score of this file by name."""


def box_score(
    formula: str, source: str, needs: str = "", *, whole_set: bool = False, candidates: bool = False
) -> Callable[[Function], Function]:
    """Register a function under its own name; see `TaskScore`."""

    def register(function: Function) -> Function:
        BOX_SCORES[function.__name__] = BoxScore(
            formula, source, needs, whole_set, candidates, function=function
        )
        return function

    return register


def box_scores(
    boxes: Boxes, counts: ClassCounts | None = None, *, whole_set: bool = False
) -> dict[str, FloatArray]:
    """Every score that these boxes allow: those that need class counts or support where there are any."""
    return {
        name: box_score_of(name, boxes, counts)
        for name, score in BOX_SCORES.items()
        if (counts is not None or not score.counts)
        and (whole_set or not score.whole_set)
        and (boxes.support is not None or not score.candidates)
    }


def box_score_of(name: str, boxes: Boxes, counts: ClassCounts | None) -> FloatArray:
    """One score by its name, [images].

    Raises:
        ConfigError: the score looks at raw candidates, and these boxes come without.
    """
    score = BOX_SCORES[name]
    if score.candidates and boxes.support is None:
        raise ConfigError(
            f"Expected raw candidates for score `{name}`, got kept boxes only: a result file holds no "
            "others, torchvision's detectors return no others. Evaluate an EfficientDet student itself, or "
            "choose another score."
        )
    return score.function(boxes, *[counts] * score.counts, *[boxes.support] * score.candidates)


@box_score("-max s", "the least sure best box; Hendrycks & Gimpel 2017, arXiv 1610.02136, for boxes")
def best_score(boxes: Boxes) -> FloatArray:
    """Negative score of the best box; 0, the most doubtful, without boxes."""
    return -boxes.best(boxes.score, 0.0)


@box_score("s2 - s1, the two best boxes", "margin, Scheffer et al. 2001, doi 10.1007/3-540-44816-0_31")
def best_margin(boxes: Boxes) -> FloatArray:
    """Runner-up minus best box, in [-1, 0]; a missing box has the score 0."""
    rank = np.arange(len(boxes.image)) - np.searchsorted(boxes.image, boxes.image)
    best, second = (boxes.total(np.where(rank == index, boxes.score, 0.0)) for index in (0, 1))
    return np.asarray(second - best)


@box_score("sum -s ln s - (1-s) ln(1-s)", "Shannon entropy of each box being an object")
def score_entropy(boxes: Boxes) -> FloatArray:
    """Nats of doubt about which boxes are objects."""
    return boxes.total(entr(boxes.score) + entr(1 - boxes.score))


@box_score("sum s over 0.1 <= s < 0.5", "boxes neither dismissed nor believed")
def grey_zone(boxes: Boxes) -> FloatArray:
    """Expected number of objects among the boxes that a user would be unsure to show."""
    grey = (boxes.score >= GREY[0]) & (boxes.score < GREY[1])
    return boxes.total(np.where(grey, boxes.score, 0.0))


@box_score("number of boxes with s > 0.3", "object count as difficulty")
def box_count(boxes: Boxes) -> FloatArray:
    """Boxes that a user would see; pictures of many objects are harder."""
    return boxes.total((boxes.score > SURE).astype(np.float64))


@box_score("sum s over boxes below 32 x 32 px", "COCO's small objects, where detectors lose most")
def small_objects(boxes: Boxes) -> FloatArray:
    """Expected number of small objects."""
    return boxes.total(np.where(boxes.area < SMALL, boxes.score, 0.0))


@box_score("sum_j s_j sum_k s_k IoU_jk, one class", "crowds, where non-maximum suppression errs")
def crowding(boxes: Boxes) -> FloatArray:
    """How much the boxes of one class overlap."""
    return boxes.total(boxes.score * boxes.crowding()[0])


@box_score("sum_j s_j max_k s_k IoU_jk, other classes", "one place, two names")
def confusion(boxes: Boxes) -> FloatArray:
    """How much boxes of different classes claim the same place."""
    return boxes.total(boxes.score * boxes.crowding()[1])


@box_score("number of classes with a box of s > 0.3", "variety as difficulty")
def class_variety(boxes: Boxes) -> FloatArray:
    """How many classes a user would see."""
    sure = boxes.score > SURE
    classes = int(boxes.label.max(initial=0)) + 1
    images = np.unique(boxes.image[sure] * classes + boxes.label[sure]) // classes
    return np.bincount(images, minlength=boxes.images).astype(np.float64)


@box_score(
    "sum s / (1 + sum_k s_k IoU_k), k the raw candidates around a box",
    "statistics of candidates before suppression, MetaDetect, Schubert et al. 2021, arXiv 2010.01695",
    candidates=True,
)
def nms_disagreement(boxes: Boxes, support: FloatArray) -> FloatArray:
    """Expected number of objects, each divided by how many of the candidates that non-maximum suppression
    drops say the same: boxes that stand alone count whole.
    """
    return boxes.total(boxes.score / (1 + support))


@box_score("sum v_c s (1-s) N / (n_c + 1)", "energy_curvature, weighted as AP weighs classes", CLASS_COUNTS)
def class_curvature(boxes: Boxes, counts: ClassCounts) -> FloatArray:
    """Curvature of the energy in units of the metric, each box that of its own class: AP is a mean over
    classes, so one object of a rare class is worth many of a common one.
    """
    return boxes.total(counts.per_object[boxes.label] * boxes.score * (1 - boxes.score))


@box_score("sum v_c s N / (n_c + 1)", "expected objects, weighted as AP weighs classes", CLASS_COUNTS)
def class_rarity(boxes: Boxes, counts: ClassCounts) -> FloatArray:
    """How much of the metric hangs on this picture, sure or not."""
    return boxes.total(counts.per_object[boxes.label] * boxes.score)


@box_score(
    "sum v_c s (1-s) M (1 - exp(-m_c)) / m_c, m_c expected in the set of M pictures",
    "class_curvature, knowing the whole set",
    CLASS_COUNTS,
    whole_set=True,
)
def set_curvature(boxes: Boxes, counts: ClassCounts) -> FloatArray:
    """Doubt weighted by what each class weighs in this very set of pictures, judged without its truth."""
    per_object = boxes.images * counts.in_set(boxes)
    return boxes.total(per_object[boxes.label] * boxes.score * (1 - boxes.score))


def check_worth(worth: Mapping[str, float], class_names: Sequence[str]) -> FloatArray:
    """[classes] weights that a user gives by class name; classes that are not named weigh 1.

    Raises:
        ConfigError: an unknown class, a weight that is negative or no number, or nothing but zeros.
    """
    if not class_names:
        raise ConfigError("Expected the names of the data's classes, got none.")
    strange = [name for name in worth if name not in class_names]
    if strange:
        raise ConfigError(f"Expected weights of the data's classes, got one of `{strange[0]}`.")
    values = np.array([worth.get(name, 1.0) for name in class_names], dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.any()):
        raise ConfigError("Expected class weights of at least 0, some above it, got others.")
    return values
