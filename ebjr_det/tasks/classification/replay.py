"""A PairedRun from saved logits of any framework: no model, no picture, only arrays."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import InvalidInput, first_line
from ebjr_det.records import read_npz
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.types import FloatArray, Logits, Output, PairedRun

NO_OTHERS: Mapping[str, Path] = MappingProxyType({})


def load_pair(
    student: Path,
    teacher: Path,
    labels: Path,
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Path] = NO_OTHERS,
) -> PairedRun:
    """Match two models' saved logits with the labels.

    Args:
        student, teacher: `.npy` or `.npz` (key `logits`; optional `image_ids`), [images, classes].
        labels: `.npy` or `.npz` (key `labels`), integers [images].
        scores: the student's answers -> deferral scores by name.
        others: logits of further single models, by name, as the teacher's.

    Raises:
        InvalidInput: unreadable files, other shapes, NaN or infinity, labels out of range, duplicate or
            disagreeing ids, no images.
    """
    first, student_ids = _logits(student, "student")
    named, answers = [(student, student_ids)], {}
    for side, path in {"teacher": teacher, **others}.items():
        answers[side], own_ids = _logits(path, side)
        named.append((path, own_ids))
        if first.shape != answers[side].shape:
            raise InvalidInput(
                f"Expected student and {side} logits of one shape, got {list(first.shape)} in `{student}` "
                f"and {list(answers[side].shape)} in `{path}`."
            )
    targets, label_ids = _labels(labels, *first.shape)
    named.append((labels, label_ids))
    given = [(path, ids) for path, ids in named if ids]
    for path, ids in given:
        if ids != given[0][1]:
            raise InvalidInput(
                f"Expected the same `image_ids` in `{given[0][0]}` and `{path}`, in one order, got others."
            )
    ids = given[0][1] if given else tuple(str(index) for index in range(len(first)))
    task = Accuracy()
    records = {side: task.match(own, targets) for side, own in answers.items()}  # type: ignore[arg-type]
    return PairedRun(
        task.name,
        ids,
        scores(Output(list(first), Logits.one_row(first))),
        task.match(first, targets),  # type: ignore[arg-type]
        records.pop("teacher"),
        records,
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
    return tuple(str(i) for i in ids)


def _labels(path: Path, images: int, classes: int) -> tuple[NDArray[np.intp], tuple[str, ...] | None]:
    arrays = _read(path, "labels", "the labels")
    labels = arrays["labels"]
    if labels.shape != (images,):
        raise InvalidInput(
            f"Expected {images} labels in `{path}`, one an image, got shape {list(labels.shape)}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InvalidInput(f"Expected integer labels in `{path}`, got {labels.dtype}.")
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
