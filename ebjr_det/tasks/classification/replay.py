"""A PairedRun from saved logits of any framework: no model, no picture, only arrays."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.types import Array, FloatArray, Logits, Output, PairedRun
from ebjr_det.io.memory import InMemory, Source
from ebjr_det.io.records import read_npz
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.popular import widen
from ebjr_det.tasks.classification.pseudo import pooled
from ebjr_det.tasks.popular import Popular

NO_OTHERS: Mapping[str, Source] = MappingProxyType({})


def load_pair(
    files: Mapping[str, Source],
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Source] = NO_OTHERS,
    popular: Sequence[str | int] | None = None,
    *,
    remarks: dict[str, Mapping[str, int]] | None = None,
) -> PairedRun:
    """Match two models' saved logits with the labels.

    Args:
        files: `student` and `teacher`, `.npy` or `.npz` (key `logits`; optional `image_ids`), [images,
            classes], and `labels`, the same (key `labels`; optional `class_names`), integers [images].
            Without labels an answer is right as far as both models' probabilities say so, see `pseudo`.
        scores: the student's answers -> deferral scores by name.
        others: logits of further single models, by name.
        popular: classes that a specialised student tells apart; its last logit is then of "other".
        remarks: stays as it is: nothing odd in arrays is taken.

    Raises:
        InvalidInput: unreadable files, other shapes or ids, NaN or infinity, labels out of range, no images.
    """
    labels = files.get("labels")
    models = {"student": files["student"], "teacher": files["teacher"], **others}
    loaded = {side: _logits(path, side) for side, path in models.items()}
    logits = {side: values for side, (values, _) in loaded.items()}
    classes = None if popular is None else Popular.of(popular, class_names(files["teacher"], labels))
    answers = logits.pop("student")
    for side, values in logits.items():
        _check_shape(values, answers, classes, f"{side} logits in `{models[side]}`", files["student"])
    named = [(models[side], ids) for side, (_, ids) in loaded.items()]
    task = Accuracy()
    output = Output(list(answers), Logits.one_row(answers))
    output = output if classes is None else widen(output, classes)
    targets: Array
    if labels is None:
        targets = pooled(np.asarray(output.predictions), logits["teacher"])
    else:
        targets, label_ids = _labels(labels, *logits["teacher"].shape)
        named.append((labels, label_ids))
    image_ids = _common_ids(named) or tuple(map(str, range(len(answers))))
    records = {side: task.match(values, targets) for side, values in logits.items()}  # type: ignore[arg-type]
    return PairedRun(
        task.name,
        image_ids,
        scores(output),
        task.match(output.predictions, targets),  # type: ignore[arg-type]
        records.pop("teacher"),
        records,
        abstains=output.abstains,
        estimated=labels is None,
    )


def _common_ids(named: Sequence[tuple[Source, tuple[str, ...] | None]]) -> tuple[str, ...] | None:
    """The ids of those files that have some. Raises InvalidInput where they differ."""
    having = [(path, ids) for path, ids in named if ids]
    for path, ids in having:
        if ids != having[0][1]:
            raise InvalidInput(
                f"Expected the same `image_ids` in `{having[0][0]}` and `{path}`, in one order, got others."
            )
    return having[0][1] if having else None


def class_names(teacher: Source, labels: Source | None = None, **logits: Source) -> tuple[str, ...]:
    """The classes of the teacher's logits: as the labels' file tells, else their indices.

    Raises:
        InvalidInput: `class_names` of another number of classes, or one twice.
    """
    classes = _logits(teacher, "teacher")[0].shape[1]
    column = None if labels is None else _read(labels, "labels", "the labels").get("class_names")
    if column is None:
        return tuple(map(str, range(classes)))
    names = tuple(map(str, column.ravel()))
    if len(names) != classes or len(set(names)) != classes:
        raise InvalidInput(
            f"Expected {classes} distinct `class_names` in `{labels}`, as the teacher has logits, "
            f"got {len(set(names))}."
        )
    return names


def _check_shape(logits: Array, answers: Array, popular: Popular | None, name: str, student: Source) -> None:
    """Raises InvalidInput where a model's logits are not of the images of the student's answers, or not of
    all classes.
    """
    if popular is None and logits.shape != answers.shape:
        raise InvalidInput(
            f"Expected student and {name} of one shape, got {list(answers.shape)} in `{student}` "
            f"and {list(logits.shape)}. Name the `popular` classes of a specialised student."
        )
    if popular is not None and answers.shape != (expected := (len(logits), popular.other + 1)):
        raise InvalidInput(
            f"Expected the student's logits in `{student}` as {list(expected)}, one for each popular class "
            f'and for "other" beside the {name}, got {list(answers.shape)}.'
        )


def _logits(path: Source, side: str) -> tuple[Array, tuple[str, ...] | None]:
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


def _ids(arrays: Mapping[str, Array], images: int, path: Source) -> tuple[str, ...] | None:
    ids = arrays.get("image_ids")
    if ids is None:
        return None
    if ids.shape != (images,):
        raise InvalidInput(f"Expected {images} image ids in `{path}`, got shape {list(ids.shape)}.")
    return tuple(map(_id, ids.tolist()))


def _id(value: object) -> str:
    """An id as text; 7.0 is 7, and bytes are the text that they hold.

    >>> _id(7.0), _id(b"a"), _id("a")
    ('7', 'a', 'a')
    """
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _labels(path: Source, images: int, classes: int) -> tuple[NDArray[np.intp], tuple[str, ...] | None]:
    arrays = _read(path, "labels", "the labels")
    labels = arrays["labels"]
    if labels.shape != (images,):
        raise InvalidInput(
            f"Expected {images} labels in `{path}`, one an image, got shape {list(labels.shape)}."
        )
    rounded = np.issubdtype(labels.dtype, np.floating) and (labels == np.round(labels)).all()
    if not (rounded or np.issubdtype(labels.dtype, np.integer)):
        raise InvalidInput(
            f"Expected integer labels, or floats of whole numbers, in `{path}`, got {labels.dtype}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InvalidInput(
            f"Expected labels in 0..{classes - 1} in `{path}`, got {labels.min()}..{labels.max()}."
        )
    return labels.astype(np.intp), _ids(arrays, images, path)


def _read(path: Source, key: str, content: str) -> Mapping[str, Array]:
    if isinstance(path, InMemory):
        return _with_key(_arrays(path, key, content), key, path)
    if path.suffix == ".npz":
        return _with_key(read_npz(path, content), key, path)
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged file can raise anything
        raise InvalidInput(
            f"Expected {content} (.npy or .npz) at `{path}`, got: {first_line(error)}."
        ) from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"Expected one array at `{path}`, got an archive. Name it `.npz`.")
    return {key: array}


def _with_key(arrays: Mapping[str, Array], key: str, path: Source) -> Mapping[str, Array]:
    if key not in arrays:
        raise InvalidInput(f"Expected the key `{key}` in `{path}`, got {sorted(arrays)}.")
    return arrays


def _arrays(source: InMemory, key: str, content: str) -> Mapping[str, Array]:
    """An array in memory, or a mapping of some; whatever numpy can make one of, such as a tensor."""
    columns = source.content if isinstance(source.content, Mapping) else {key: source.content}
    try:
        return {str(name): np.asarray(values) for name, values in columns.items()}
    except Exception as error:  # a tensor on a GPU, lists of several lengths
        raise InvalidInput(
            f"Expected {content} as arrays in `{source}`, got: {first_line(error)}."
        ) from error
