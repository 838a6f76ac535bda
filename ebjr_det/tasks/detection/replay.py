"""A PairedRun from the result files of any two detectors: no model, no picture, only boxes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.types import FloatArray, Logits, Output, PairedRun
from ebjr_det.io.memory import Source
from ebjr_det.io.notes import say
from ebjr_det.tasks.detection.coco.annotations import (
    UNKNOWN_CATEGORIES,
    Annotations,
    Results,
    load_annotations,
    load_results,
)
from ebjr_det.tasks.detection.coco.validate import say_remarks
from ebjr_det.tasks.detection.detections import Detections, to_corners
from ebjr_det.tasks.detection.metric import AveragePrecision, match_records
from ebjr_det.tasks.detection.networks.classes import padded
from ebjr_det.tasks.detection.popular import OTHER_AT, narrow_annotations, widen_results
from ebjr_det.tasks.detection.pseudo import pictures_of_results, with_drawn_objects
from ebjr_det.tasks.detection.routing.features import features_of
from ebjr_det.tasks.popular import Popular

ROWS = 100  # boxes of an image that a score sees
CHUNK = 512  # images scored at a time
LEAST = 1e-9  # scores of 0 and 1 have no logit
OBJECTS = "boxes drawn as objects, in place of annotations"
NO_OTHERS: Mapping[str, Source] = MappingProxyType({})


def load_pair(
    files: Mapping[str, Source],
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Source] = NO_OTHERS,
    popular: Sequence[str | int] | None = None,
    other_at: float | None = None,
    *,
    lenient: bool = False,
    remarks: dict[str, Mapping[str, int]] | None = None,
) -> PairedRun:
    """Match two result files with the ground truth.

    A result file holds one number a box, so the only logit of a box is that of its score, log(s / (1 - s)).

    Args:
        files: `student` and `teacher`, COCO result files, `.json` or `.json.gz`, and `annotations`, the COCO
            ground truth of the same images. Without it the teacher's boxes stand in for objects, see
            `pseudo`; then `pictures`, a COCO file of which objects are not looked at, tells which images
            and classes there are, or else the result files do.
        scores: the student's answers -> deferral scores by name.
        others: result files of further single models, by name.
        popular: names of the classes that a specialised student tells apart. Its boxes of "other" have the
            category id after the largest; one of a score of at least `other_at` hands the picture on.
        lenient: leave out detections of images that the ground truth lacks.
        remarks: gets, by file, what was odd and left out or taken all the same; it is said on stderr too.

    Raises InvalidInput as `load_annotations` and `load_results` do, or where there is no object to find.
    """
    _check_other_at(other_at, popular)
    _check_described(files)
    models = {"student": files["student"], "teacher": files["teacher"], **others}
    truth = _pictures(files, popular)
    classes = None if popular is None else Popular.of(popular, truth.class_names)
    results, oddities = _loaded(models, truth, classes, lenient=lenient)
    if "annotations" not in files:
        truth = with_drawn_objects(truth, results["teacher"])
        oddities["teacher"][OBJECTS] = sum(map(len, truth.truths))
    described = "annotations" if "annotations" in files else "pictures"
    oddities = {described: dict(truth.remarks)} | oddities
    paths = {name: files[name] for name in (described,) if name in files} | models
    for name, path in paths.items():
        say_remarks(path, oddities[name])
    if remarks is not None:
        remarks |= {name: counts for name, counts in oddities.items() if counts}
    abstains = None
    if classes is not None:
        least = OTHER_AT if other_at is None else other_at
        widened = [widen_results(image, classes, least) for image in results["student"]]
        results["student"] = tuple(image for image, _ in widened)
        abstains = np.array([abstained for _, abstained in widened])
    paired = _paired(truth, results, scores, abstains)
    return replace(paired, estimated="annotations" not in files)


def _check_described(files: Mapping[str, Source]) -> None:
    if "annotations" in files and "pictures" in files:
        raise ConfigError(
            "Expected either annotations or, where there are none, pictures, got both. Annotations alone "
            "give exact numbers."
        )


def _pictures(files: Mapping[str, Source], popular: Sequence[str | int] | None) -> Annotations:
    """The annotated images; where there are no annotations, the images alone."""
    if "annotations" in files:
        truth = load_annotations(files["annotations"])
        if all(image.crowd.all() for image in truth.truths):
            raise InvalidInput(
                f"Expected an annotated object that is no crowd in `{files['annotations']}`, got none."
            )
        return truth
    if "pictures" in files:
        return load_annotations(files["pictures"], objects_too=False)
    if popular is not None:
        raise InvalidInput(
            "Expected `annotations` or `pictures` beside a specialised student, got result files alone, "
            "which name no classes."
        )
    say(
        "Note: no file names the classes, they go by their ids. A router for live models needs names, of "
        "`pictures`."
    )
    return pictures_of_results([files["student"], files["teacher"]])


def _loaded(
    files: Mapping[str, Source], truth: Annotations, classes: Popular | None, *, lenient: bool
) -> tuple[dict[str, tuple[Results, ...]], dict[str, dict[str, int]]]:
    """The results in each file, those of a specialised student in its `classes`, and what was odd in each."""
    oddities: dict[str, dict[str, int]] = {}
    results = {}
    for name, path in files.items():
        expected = narrow_annotations(truth, classes) if classes and name == "student" else truth
        results[name] = load_results(path, expected, lenient, oddities.setdefault(name, {}))
    if classes is not None and UNKNOWN_CATEGORIES in oddities["student"]:
        raise InvalidInput(
            f"Expected detections of the popular classes and of other in `{files['student']}`, got "
            f"{oddities['student'][UNKNOWN_CATEGORIES]:,} of other categories."
        )
    return results, oddities


def _paired(
    truth: Annotations,
    results: Mapping[str, tuple[Results, ...]],
    scores: Callable[[Output], Mapping[str, FloatArray]],
    abstains: NDArray[np.bool_] | None,
) -> PairedRun:
    """All models' results, student and teacher among them, matched and scored."""
    student, classes = results["student"], len(truth.category_ids)
    outputs = [output_of(student[start : start + CHUNK]) for start in range(0, len(student), CHUNK)]
    chunks = [scores(output) for output in outputs]
    records = {name: match_records(images, truth.truths, classes) for name, images in results.items()}
    return PairedRun(
        AveragePrecision.name,
        tuple(str(image) for image in truth.image_ids),
        {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]},
        records.pop("student"),
        records.pop("teacher"),
        records,
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


def class_names(
    annotations: Source | None = None, pictures: Source | None = None, **outputs: Source
) -> tuple[str, ...]:
    """The classes of the ground truth, by index; `outputs` are the result files, which know ids only."""
    described = annotations or pictures
    if described is None:
        return pictures_of_results(list(outputs.values())).class_names
    return load_annotations(described, objects_too=False).class_names


def output_of(results: Sequence[Results]) -> Output:
    """What a detector would have answered that knows no more than a result file."""
    clipped = [np.clip(image.scores, 0, 1) for image in results]  # a float's noise has no logit
    predictions = [
        Detections(to_corners(image.boxes), scores, image.labels)
        for image, scores in zip(results, clipped, strict=True)
    ]
    return Output(predictions, logits_of(results))


def logits_of(results: Sequence[Results]) -> Logits:
    """Each image's boxes in descending score, one logit a box: [images, rows, 1]."""
    best = [np.clip(np.sort(image.scores)[::-1][:ROWS, None], LEAST, 1 - LEAST) for image in results]
    return padded([np.log(scores / (1 - scores)) for scores in best], 1, np.float64, 0)
