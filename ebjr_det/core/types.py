"""The frozen values that cross borders, and the protocols that a model and a task fulfil.

Convention: arrays are numpy, the first axis is the image. Nothing here knows what a picture or a label is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.columns import (
    check,
    check_finite,
    check_ids,
    check_records,
    check_student_columns,
)
from ebjr_det.core.errors import InvalidInput

Opaque: TypeAlias = Any
"""An image, a model's input, a prediction or a target: the core hands it on and never looks inside."""
Array: TypeAlias = NDArray[Any]
"""Plain numbers of any type."""
FloatArray: TypeAlias = NDArray[np.float64]
Copies: TypeAlias = NDArray[np.intp] | NDArray[np.float64]
"""[images] how often each image counts, or how much it weighs."""
Matches: TypeAlias = Mapping[str, Array]
"""One model's match records: named columns, each of which concatenates along its first axis.

A task with one record an image stores columns of length [images]; a task with several records an image
stores their number as `counts` [images] beside flat columns of length [sum(counts)], image after image. So
the core saves, joins and resumes records without knowing what they mean.
"""


@dataclass(frozen=True)
class Logits:
    """Raw class logits, before softmax or sigmoid.

    Attributes:
        values: [images, rows, classes], any float type. Classification has one row an image, detection
            one row a kept box, padded to the longest image.
        valid: [images, rows], True where a row is real and False where it pads.

    Raises:
        InvalidInput: the shapes disagree, there are no classes, or a valid row holds NaN or infinity (or a
            number above 1e100, whose sums would be infinite).
    """

    values: NDArray[np.floating]
    valid: NDArray[np.bool_]

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 3 or shape[2] < 1:
            raise InvalidInput(f"Expected logits of shape [images, rows, classes], got {list(shape)}.")
        if self.valid.shape != shape[:2]:
            raise InvalidInput(f"Expected `valid` of shape {list(shape[:2])}, got {list(self.valid.shape)}.")
        with np.errstate(over="ignore"):
            finite = (np.abs(self.values.astype(np.float64)) <= 1e100) | ~self.valid[:, :, None]
        check_finite(finite, "logits")

    @classmethod
    def one_row(cls, values: NDArray[np.floating]) -> "Logits":
        """Classification logits [images, classes] as one valid row an image."""
        if values.ndim != 2:
            raise InvalidInput(f"Expected logits of shape [images, classes], got {list(values.shape)}.")
        return cls(values[:, None, :], np.ones((len(values), 1), dtype=bool))

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Output:
    """What a model returns for a batch: one opaque prediction and one set of logits an image.

    Attributes:
        features: [images, d] finite numbers about each image from inside the model, where it tells any.
        abstains: [images] True where a specialised student sees something outside its classes and so hands
            the image on whatever its score; None of a model of all classes.

    Raises:
        InvalidInput: other numbers of images, or features that are no finite floats.
    """

    predictions: Sequence[Opaque]
    logits: Logits
    features: NDArray[np.floating] | None = None
    abstains: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if len(self.predictions) != len(self.logits):
            raise InvalidInput(
                f"Expected one prediction an image, got {len(self.predictions)} predictions "
                f"and logits of {len(self.logits)} images."
            )
        check_student_columns(self.features, self.abstains, len(self.logits))


@runtime_checkable
class Model(Protocol):
    """A pre-trained model as the core sees it; it owns its preprocessing."""

    @property
    def name(self) -> str:
        """Shown in tables and figures."""

    def preprocess(self, image: Opaque) -> Opaque:
        """One image as the data set gives it -> one input of this model. Runs in loader workers."""

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """A batch of preprocessed inputs, any length above zero -> their predictions and logits.

        Returns only when the answer is complete: work queued on an accelerator is waited for.
        """


class Mixtures(Protocol):
    """Two models' answers on the same N images, ready to be judged in any mixture."""

    def path(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: Copies | None = None,
    ) -> FloatArray:
        """Quality of the mixtures in which the first images of `order` are the teacher's, [len(deferred)].

        Args:
            order: the N images, each once.
            deferred: ascending numbers in 0..N of images that are the teacher's; by default all N + 1.
            copies: [N] how often each image counts, by default once, or how much it weighs; both exact.
        """

    def by_class(
        self, order: NDArray[np.intp], deferred: NDArray[np.intp], copies: Copies | None = None
    ) -> FloatArray:
        """[classes that records tell apart, len(deferred)] quality of each, -1 where it weighs nothing."""

    def weighing(self, worth: FloatArray) -> "Mixtures":
        """These answers with classes weighing so much, [classes], in every mean over classes.

        A quality that is a mean over images stays as it is: there images weigh, not classes.
        """

    def metrics(self, order: NDArray[np.intp], deferred: NDArray[np.intp]) -> dict[str, FloatArray]:
        """All of the task's numbers of the mixtures, in the order of `Task.metrics`, each [len(deferred)]."""

    def reward(self) -> FloatArray:
        """[N] what the teacher's answer adds to the quality; descending it is the oracle's order."""


class Task(Protocol):
    """How answers are judged: matching is per image, the metric is over any mix of images.

    Because the match records of an image do not depend on the other images, every mixture of student and
    teacher answers is evaluated from the records alone, without running a model again.
    """

    name: str
    quality_name: str
    table_metrics: tuple[str, ...]
    """Those of `metrics` that a table shows."""
    mean: bool
    """Whether the quality is a mean over images, each right or wrong."""

    def match(self, predictions: Sequence[Opaque], targets: Sequence[Opaque]) -> Matches:
        """Compare each image's prediction with its target, once an image."""

    def metrics(self, matches: Matches) -> dict[str, float]:
        """The task's numbers over all images of the records; the one called `quality_name` decides."""

    def by_class(self, matches: Matches) -> FloatArray | None:
        """[classes, numbers] those of `metrics` for each class alone, -1 where the images show no object of
        it; None where there are no such numbers.
        """

    def composition(self, matches: Matches, classes: int | None = None) -> NDArray[np.uint16]:
        """[images, classes] how many objects of each class an image shows, by any model's records.

        Args:
            classes: how many there are; by default as many as the records tell apart.

        Raises:
            InvalidInput: the records do not tell, or tell another number of classes.
        """

    def mixtures(self, student: Matches, teacher: Matches) -> Mixtures:
        """Everything that two models' records on the same images can be mixed to."""

    def right(self, matches: Matches) -> NDArray[np.bool_] | None:
        """[images] right or wrong, or None where the quality is no mean over images (AP)."""

    def take(self, matches: Matches, images: NDArray[np.intp]) -> Matches:
        """The records of some images, in the order given, repeats allowed."""


@dataclass(frozen=True)
class RouterDecision:
    """Which images of a batch the teacher answers: defer = scores > threshold, strictly."""

    scores: FloatArray
    threshold: float
    defer: NDArray[np.bool_]

    @property
    def deferral_rate(self) -> float:
        """Share of the images that are deferred, in [0, 1]."""
        return float(self.defer.mean())


@dataclass(frozen=True)
class PairedRun:
    """Both models' records on the same images: everything that offline analysis needs.

    Attributes:
        task: the task's registered name.
        image_ids: N distinct strings.
        scores: deferral scores by name, each [N] float64, higher = send to the teacher, as the student's
            answers give them; `tradeoff.score_of` puts images that it hands on above all others.
        student, teacher: match records of the two models, in the order of `image_ids`.
        others: match records of further single models to compare the pair with, by name.
        features: [N, m] float32 numbers of the student for learned routers, or None.
        abstains: [N] where a specialised student handed the image on, or None.

    Raises:
        InvalidInput: no images, duplicate ids, a score or features whose shape or values are unusable, a
            model's name that no file can hold, or records that are no plain numbers or of another number of
            images.
    """

    task: str
    image_ids: tuple[str, ...]
    scores: Mapping[str, FloatArray]
    student: Matches = field(repr=False)
    teacher: Matches = field(repr=False)
    others: Mapping[str, Matches] = field(default_factory=dict, repr=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    abstains: NDArray[np.bool_] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_ids(self.image_ids)
        images = len(self)
        for name, values in self.scores.items():
            sound = values.dtype == np.float64 and values.shape == (images,) and np.isfinite(values).all()
            check(sound, f"score `{name}` to be {images} finite float64 numbers", values)
        for name in self.others:
            if not name or "/" in name or not name.isprintable():
                raise InvalidInput(f"Expected a model's name in printable letters without `/`, got {name!r}.")
        further = {f"others/{name}": records for name, records in self.others.items()}
        for side, records in {"student": self.student, "teacher": self.teacher, **further}.items():
            check_records(records, side, images)
        check_student_columns(self.features, self.abstains, images)
        if self.features is not None and self.features.dtype != np.float32:
            raise InvalidInput(f"Expected `features` to be float32, got {self.features.dtype}.")

    def __len__(self) -> int:
        return len(self.image_ids)


def concatenate(parts: Sequence[Matches]) -> Matches:
    """The records of several sets of images as one. Raises InvalidInput where they have other columns."""
    if any(part.keys() != parts[0].keys() for part in parts):
        raise InvalidInput("Expected the same columns in all parts of a run, got others.")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
