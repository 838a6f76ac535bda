"""A PairedRun from the result files of any two detectors: no model, no picture, only boxes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import Detections, FloatArray, Logits, Output, PairedRun
from ebjr_det.tasks.detection.coco.annotations import (
    UNKNOWN_CATEGORIES,
    Results,
    load_annotations,
    load_results,
)
from ebjr_det.tasks.detection.coco.validate import say_remarks
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records
from ebjr_det.tasks.detection.networks.classes import padded
from ebjr_det.tasks.detection.popular import OTHER_AT, narrow_annotations, widen_results
from ebjr_det.tasks.detection.routing.features import features_of
from ebjr_det.tasks.popular import Popular

ROWS = 100  # boxes of an image that a score sees
CHUNK = 512  # images scored at a time
LEAST = 1e-9  # scores of 0 and 1 have no logit
NO_OTHERS: Mapping[str, Path] = MappingProxyType({})


def load_pair(
    student: Path,
    teacher: Path,
    annotations: Path,
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Path] = NO_OTHERS,
    popular: Sequence[str | int] | None = None,
    other_at: float | None = None,
    *,
    lenient: bool = False,
    remarks: dict[str, Mapping[str, int]] | None = None,
) -> PairedRun:
    """Match two result files with the ground truth.

    A result file holds one number a box, so the only logit of a box is that of its score, log(s / (1 - s)).

    Args:
        student, teacher: COCO result files, `.json` or `.json.gz`.
        annotations: the COCO ground truth of the same images.
        scores: the student's answers -> deferral scores by name.
        others: result files of further single models, by name.
        popular: names of the classes that a specialised student tells apart. Its boxes of "other" have the
            category id after the largest; one of a score of at least `other_at` hands the picture on.
        lenient: leave out detections of images that the ground truth lacks.
        remarks: gets, by file, what was odd and left out or taken all the same; it is said on stderr too.

    Raises:
        InvalidInput: see `annotations.load_annotations` and `annotations.load_results`; or no object to find.
    """
    _check_other_at(other_at, popular)
    truth = load_annotations(annotations)
    if all(image.crowd.all() for image in truth.truths):
        raise InvalidInput(f"Expected an annotated object that is no crowd in `{annotations}`, got none.")
    apart = None if popular is None else Popular.of(popular, truth.class_names)
    own_truth = truth if apart is None else narrow_annotations(truth, apart)
    files = {"annotations": annotations, "student": student, "teacher": teacher, **others}
    odd: dict[str, dict[str, int]] = {name: {} for name in files} | {"annotations": dict(truth.remarks)}
    loaded = {
        name: load_results(path, own_truth if name == "student" else truth, lenient, odd[name])
        for name, path in files.items()
        if name != "annotations"
    }
    if apart is not None and UNKNOWN_CATEGORIES in odd["student"]:
        raise InvalidInput(
            f"Expected detections of the popular classes and of other in `{student}`, got "
            f"{odd['student'][UNKNOWN_CATEGORIES]:,} of other categories."
        )
    for name, path in files.items():
        say_remarks(path, odd[name])
    if remarks is not None:
        remarks |= {name: told for name, told in odd.items() if told}
    first, second = loaded.pop("student"), loaded.pop("teacher")
    abstains = None
    if apart is not None:
        widened = [widen_results(own, apart, OTHER_AT if other_at is None else other_at) for own in first]
        first, abstains = tuple(own for own, _ in widened), np.array([handed_on for _, handed_on in widened])
    outputs = [output_of(first[at : at + CHUNK]) for at in range(0, len(first), CHUNK)]
    chunks = [scores(output) for output in outputs]
    classes = len(truth.category_ids)
    return PairedRun(
        AveragePrecision.name,
        tuple(str(image) for image in truth.image_ids),
        {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]},
        match_records(first, truth.truths, classes),
        match_records(second, truth.truths, classes),
        {name: match_records(own, truth.truths, classes) for name, own in loaded.items()},
        np.concatenate([features_of(output) for output in outputs]),
        abstains,
    )


def _check_other_at(other_at: float | None, popular: Sequence[str | int] | None) -> None:
    if other_at is not None and popular is None:
        raise ConfigError(
            f"Expected --other-at beside --popular classes of a detector, got {other_at} without them."
        )
    if other_at is not None and not 0 <= other_at <= 1:
        raise ConfigError(f"Expected --other-at in [0, 1], got {other_at}.")


def class_names(annotations: Path, **outputs: Path) -> tuple[str, ...]:
    """The classes of the ground truth, by index; `outputs` are the result files."""
    return load_annotations(annotations).class_names


def output_of(results: Sequence[Results]) -> Output:
    """What a detector would have answered that knows no more than a result file."""
    return Output([_detections(own) for own in results], logits_of(results))


def _detections(own: Results) -> Detections:
    corners = np.concatenate([own.boxes[:, :2], own.boxes[:, :2] + own.boxes[:, 2:]], axis=1)
    return Detections(corners, np.clip(own.scores, 0, 1), own.labels)  # a float's noise has no logit


def logits_of(results: Sequence[Results]) -> Logits:
    """Each image's boxes in descending score, one logit a box: [images, rows, 1]."""
    best = [np.clip(np.sort(own.scores)[::-1][:ROWS, None], LEAST, 1 - LEAST) for own in results]
    return padded([np.log(scores / (1 - scores)) for scores in best], 1, np.float64, 0)
