"""A PairedRun from saved logits of any framework: no model, no picture, only arrays."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import FloatArray, Logits, Output, PairedRun
from ebjr_det.io.records import read_npz
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.popular import widen
from ebjr_det.tasks.popular import Popular

NO_OTHERS: Mapping[str, Path] = MappingProxyType({})


def load_pair(
    student: Path,
    teacher: Path,
    labels: Path,
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Path] = NO_OTHERS,
    popular: Sequence[str | int] | None = None,
    *,
    remarks: dict[str, Mapping[str, int]] | None = None,
) -> PairedRun:
    """Match two models' saved logits with the labels.

    Args:
        student, teacher: `.npy` or `.npz` (key `logits`; optional `image_ids`), [images, classes].
        popular: indices of the classes that a specialised student tells apart; its logits are then
            [images, their number + 1], the last one of "other".
        labels: `.npy` or `.npz` (key `labels`; optional `class_names`), integers [images].
        scores: the student's answers -> deferral scores by name.
        others: logits of further single models, by name, as the teacher's.
        remarks: stays as it is: nothing odd in arrays is taken.

    Raises:
        InvalidInput: unreadable files, other shapes, NaN or infinity, labels out of range, duplicate or
            disagreeing ids, no images.
    """
    first, student_ids = _logits(student, "student")
    named, answers = [(student, student_ids)], {}
    for side, path in {"teacher": teacher, **others}.items():
        answers[side], own_ids = _logits(path, side)
        named.append((path, own_ids))
    apart = None if popular is None else Popular.of(popular, class_names(teacher, labels))
    for side, path in {"teacher": teacher, **others}.items():
        _check_shape(answers[side], first, apart, f"{side} logits in `{path}`", student)
    targets, label_ids = _labels(labels, *answers["teacher"].shape)
    named.append((labels, label_ids))
    given = [(path, ids) for path, ids in named if ids]
    for path, ids in given:
        if ids != given[0][1]:
            raise InvalidInput(
                f"Expected the same `image_ids` in `{given[0][0]}` and `{path}`, in one order, got others."
            )
    ids = given[0][1] if given else tuple(str(index) for index in range(len(first)))
    task = Accuracy()
    output = Output(list(first), Logits.one_row(first))
    output = output if apart is None else widen(output, apart)
    records = {side: task.match(own, targets) for side, own in answers.items()}  # type: ignore[arg-type]
    return PairedRun(
        task.name,
        ids,
        scores(output),
        task.match(output.predictions, targets),  # type: ignore[arg-type]
        records.pop("teacher"),
        records,
        abstains=output.abstains,
    )


def class_names(teacher: Path, labels: Path, **others: Path) -> tuple[str, ...]:
    """The classes of the teacher's logits: as the labels' file tells, else their indices.

    Raises:
        InvalidInput: `class_names` of another number of classes, or one twice.
    """
    classes = _logits(teacher, "teacher")[0].shape[1]
    told = _read(labels, "labels", "the labels").get("class_names")
    if told is None:
        return tuple(map(str, range(classes)))
    names = tuple(str(name) for name in told.ravel())
    if len(names) != classes or len(set(names)) != classes:
        raise InvalidInput(
            f"Expected {classes} distinct `class_names` in `{labels}`, as the teacher has logits, "
            f"got {len(set(names))}."
        )
    return names


def _check_shape(
    answers: NDArray[Any], first: NDArray[Any], popular: Popular | None, what: str, student: Path
) -> None:
    """Raises InvalidInput where another model's logits are not of the student's images or of all classes."""
    wanted = first.shape if popular is None else (len(answers), popular.other + 1)
    if popular is None and answers.shape != first.shape:
        raise InvalidInput(
            f"Expected student and {what} of one shape, got {list(first.shape)} in `{student}` "
            f"and {list(answers.shape)}. Name the `popular` classes of a specialised student."
        )
    if first.shape != wanted:
        raise InvalidInput(
            f"Expected the student's logits in `{student}` as {list(wanted)}, one for each popular class and "
            f'for "other" beside the {what}, got {list(first.shape)}.'
        )


def _logits(path: Path, side: str) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    arrays = _read(path, "logits", f"the {side}'s logits")
    values = arrays["logits"]
    if values.ndim != 2 or not values.size:
        raise InvalidInput(
            f"Expected the {side}'s logits as [images, classes] in `{path}`, got {list(values.shape)}."
        )
    if not np.issubdtype(values.dtype, np.floating):
        raise InvalidInput(f"Expected floating-point logits in `{path}`, got {values.dtype}.")
    try:
        Logits.one_row(values)
    except InvalidInput as error:
        raise InvalidInput(f"In the {side}'s logits, `{path}`: {error}") from error
    return values, _ids(arrays, len(values), path)


def _ids(arrays: Mapping[str, NDArray[Any]], images: int, path: Path) -> tuple[str, ...] | None:
    ids = arrays.get("image_ids")
    if ids is None:
        return None
    if ids.shape != (images,):
        raise InvalidInput(f"Expected {images} image ids in `{path}`, got shape {list(ids.shape)}.")
    return tuple(map(_id, ids.tolist()))


def _id(value: Any) -> str:
    """An id as text; 7.0 is 7, and bytes are the text that they hold.

    >>> _id(7.0), _id(b"a"), _id("a")
    ('7', 'a', 'a')
    """
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _labels(path: Path, images: int, classes: int) -> tuple[NDArray[np.intp], tuple[str, ...] | None]:
    arrays = _read(path, "labels", "the labels")
    labels = arrays["labels"]
    if labels.shape != (images,):
        raise InvalidInput(
            f"Expected {images} labels in `{path}`, one an image, got shape {list(labels.shape)}."
        )
    whole = np.issubdtype(labels.dtype, np.floating) and (labels == np.round(labels)).all()
    if not (whole or np.issubdtype(labels.dtype, np.integer)):
        raise InvalidInput(
            f"Expected integer labels, or floats of whole numbers, in `{path}`, got {labels.dtype}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InvalidInput(
            f"Expected labels in 0..{classes - 1} in `{path}`, got {labels.min()}..{labels.max()}."
        )
    return labels.astype(np.intp), _ids(arrays, images, path)


def _read(path: Path, key: str, what: str) -> Mapping[str, NDArray[Any]]:
    if path.suffix == ".npz":
        arrays = read_npz(path, what)
        if key not in arrays:
            raise InvalidInput(f"Expected the key `{key}` in `{path}`, got {sorted(arrays)}.")
        return arrays
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(
            f"Expected {what} (.npy or .npz) at `{path}`, got: {first_line(error)}."
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"Expected one array at `{path}`, got an archive. Name it `.npz`.")
    return {key: array}
