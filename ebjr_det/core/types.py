"""The frozen values that cross borders, and the protocols that a model and a task fulfil.

Convention: arrays are numpy, the first axis is the image. Nothing here knows what a picture or a label is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput

Opaque: TypeAlias = Any
"""An image, a model's input, a prediction or a target: the core hands it on and never looks inside."""
Array: TypeAlias = NDArray[Any]
"""Plain numbers of any type."""
FloatArray: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.intp]
Flags: TypeAlias = NDArray[np.bool_]
Copies: TypeAlias = Indices | FloatArray
"""[images] how often each image counts, or how much it weighs."""
Matches: TypeAlias = Mapping[str, Array]
"""One model's match records: named columns, each of which concatenates along its first axis.

With one record an image columns have length [images]; with several, their number is `counts` [images] beside
flat columns of length [sum(counts)], image after image. So the core needs not know what records mean.
"""


@dataclass(frozen=True)
class Logits:
    """Raw class logits, before softmax or sigmoid.

    Attributes:
        values: [images, rows, classes], any float type. Classification has one row an image, detection
            one row a kept box, padded to the longest image.
        valid: [images, rows], True where a row is real and False where it pads.
        head: whether a row's probabilities are one softmax over all classes or one sigmoid a class.
        background: [images, rows] a softmax head's logit of "none of the classes", where it has one.

    Raises:
        InvalidInput: shapes that disagree, no classes, or a valid row with NaN, infinity or a number above
            1e100, whose sums would be infinite.
    """

    values: NDArray[np.floating]
    valid: Flags
    head: Literal["softmax", "sigmoid"] = "softmax"
    background: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        shape = self.values.shape
        if len(shape) != 3 or shape[2] < 1:
            raise InvalidInput(f"Expected logits of shape [images, rows, classes], got {list(shape)}.")
        if self.valid.shape != shape[:2]:
            raise InvalidInput(f"Expected `valid` of shape {list(shape[:2])}, got {list(self.valid.shape)}.")
        if self.background is not None and self.background.shape != shape[:2]:
            raise InvalidInput(
                f"Expected `background` of shape {list(shape[:2])}, got {list(self.background.shape)}."
            )
        with np.errstate(over="ignore"):
            finite = (np.abs(self.values.astype(np.float64)) <= 1e100) | ~self.valid[:, :, None]
        _check_finite(finite, "logits")

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
    abstains: Flags | None = None

    def __post_init__(self) -> None:
        if len(self.predictions) != len(self.logits):
            raise InvalidInput(
                f"Expected one prediction an image, got {len(self.predictions)} predictions and logits of "
                f"{len(self.logits)} images."
            )
        _check_student_columns(self.features, self.abstains, len(self.logits))


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
        self, order: Indices, deferred: Indices | None = None, copies: Copies | None = None
    ) -> FloatArray:
        """Quality of the mixtures in which the first images of `order` are the teacher's, [len(deferred)].

        Args:
            order: the N images, each once.
            deferred: ascending numbers in 0..N of images that are the teacher's; by default all N + 1.
            copies: [N] how often each image counts, by default once, or how much it weighs; both exact.
        """

    def by_class(self, order: Indices, deferred: Indices, copies: Copies | None = None) -> FloatArray:
        """[classes that records tell apart, len(deferred)] quality of each, -1 where it weighs nothing."""

    def weighing(self, worth: FloatArray) -> "Mixtures":
        """The answers with classes weighing so much, [classes], in every mean over classes.

        A quality that is a mean over images stays as it is: there images weigh, not classes.
        """

    def metrics(self, order: Indices, deferred: Indices) -> dict[str, FloatArray]:
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
        """[classes, numbers] those of `metrics` that each class has, -1 where it is not shown; or None."""

    def composition(self, matches: Matches, classes: int | None = None) -> NDArray[np.uint16]:
        """[images, classes] how many objects of each class an image shows, by any model's records.

        Raises InvalidInput where these do not tell, or tell another number of `classes` than expected.
        """

    def mixtures(self, student: Matches, teacher: Matches) -> Mixtures:
        """Everything that two models' records on the same images can be mixed to."""

    def right(self, matches: Matches) -> Flags | None:
        """[images] right or wrong, or None where the quality is no mean over images (AP)."""

    def take(self, matches: Matches, images: Indices) -> Matches:
        """The records of some images, in the order given, repeats allowed."""


@dataclass(frozen=True)
class PairedRun:
    """Two models' records on the same images: everything that offline analysis needs.

    Attributes:
        task: the task's registered name.
        image_ids: N distinct strings.
        scores: deferral scores by name, each [N] float64, higher = send to the teacher, as the student's
            answers give them; `tradeoff.score_of` puts images that it hands on above all others.
        student, teacher: match records of the two models, in the order of `image_ids`.
        others: match records of further single models to compare the pair with, by name.
        features: [N, m] float32 numbers of the student for learned routers, or None.
        abstains: [N] where a specialised student handed the image on, or None.
        estimated: the records are an estimate, for want of labels: see `tasks.contract`.

    Raises:
        InvalidInput: no images, duplicate ids, columns of another shape, type or number of images, values
            that are not finite, or a model's name that no file can hold.
    """

    task: str
    image_ids: tuple[str, ...]
    scores: Mapping[str, FloatArray]
    student: Matches = field(repr=False)
    teacher: Matches = field(repr=False)
    others: Mapping[str, Matches] = field(default_factory=dict, repr=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False)
    abstains: Flags | None = field(default=None, repr=False)
    estimated: bool = False

    def __post_init__(self) -> None:
        _check_ids(self.image_ids)
        images = len(self)
        for name, values in self.scores.items():
            sound = values.dtype == np.float64 and values.shape == (images,) and np.isfinite(values).all()
            _check(sound, f"score `{name}` to be {images} finite float64 numbers", values)
        for name in self.others:
            if not name or "/" in name or not name.isprintable():
                raise InvalidInput(f"Expected a model's name in printable letters without `/`, got {name!r}.")
        singles = {f"others/{name}": records for name, records in self.others.items()}
        for side, records in {"student": self.student, "teacher": self.teacher, **singles}.items():
            _check_records(records, side, images)
        _check_student_columns(self.features, self.abstains, images)
        if self.features is not None and self.features.dtype != np.float32:
            raise InvalidInput(f"Expected `features` to be float32, got {self.features.dtype}.")

    def __len__(self) -> int:
        return len(self.image_ids)


def concatenate(parts: Sequence[Matches]) -> Matches:
    """The records of several sets of images as one. Raises InvalidInput where they have other columns."""
    if any(part.keys() != parts[0].keys() for part in parts):
        raise InvalidInput("Expected the same columns in all parts of a run, got others.")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_ids(image_ids: Sequence[str]) -> None:
    if not image_ids:
        raise InvalidInput("Expected at least one image, got none.")
    seen = set[str]()
    for image in image_ids:
        if image in seen:
            raise InvalidInput(f"Expected distinct image ids, got `{image}` more than once.")
        seen.add(image)
    if any("\ud800" <= letter <= "\udfff" for letter in "".join(image_ids)):
        raise InvalidInput("Expected image ids that UTF-8 can write, got one with half a character.")


def _check_records(records: Matches, side: str, images: int) -> None:
    """Match records are numbers: one an image, or as many as `counts` says."""
    lengths = {images}
    if "counts" in records and np.issubdtype(records["counts"].dtype, np.integer):
        lengths.add(int(records["counts"].sum()))
    for name, column in records.items():
        sound = not column.dtype.hasobject and column.ndim > 0
        sound = sound and len(column) in (lengths if name != "counts" else {images})
        _check(sound, f"`{side}/{name}` to hold numbers for {images} images", column)


def _check_student_columns(features: Array | None, abstains: Array | None, images: int) -> None:
    """Features are finite in float32, the precision in which runs keep them and forests see them."""
    if features is not None:
        sound = np.issubdtype(features.dtype, np.floating) and features.ndim == 2 and len(features) == images
        _check(sound, f"`features` to be floats of shape [{images}, columns]", features)
        with np.errstate(over="ignore"):
            _check_finite(np.isfinite(features.astype(np.float32)), "`features`")
    if abstains is not None:
        sound = abstains.dtype == np.bool_ and abstains.shape == (images,)
        _check(sound, f"`abstains` to be {images} truth values", abstains)


def _check(sound: bool | np.bool_, expected: str, column: Array) -> None:
    if not sound:
        raise InvalidInput(f"Expected {expected}, got {column.dtype} of shape {list(column.shape)}.")


def _check_finite(entries: Flags, noun: str) -> None:
    """Counts the images for which an entry, [images, ...], is not finite."""
    finite = np.asarray(entries.all(axis=tuple(range(1, entries.ndim))))
    if not finite.all():
        raise InvalidInput(
            f"Expected finite {noun}, got NaN or infinity for {(~finite).sum()} of {len(finite)} images, "
            f"the first at index {finite.argmin()}."
        )
