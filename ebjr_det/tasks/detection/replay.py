"""A PairedRun from the result files of any two detectors: no model, no picture, only boxes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypedDict, Unpack

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
    load_results,
)
from ebjr_det.tasks.detection.coco.validate import say_remarks
from ebjr_det.tasks.detection.detections import Detections, to_corners
from ebjr_det.tasks.detection.formats.results import Reading, as_cocos
from ebjr_det.tasks.detection.formats.sets import load_set, names_of
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


class Options(TypedDict, total=False):
    """What files cannot tell, of `TaskPlugin.replay_options`.

    Attributes:
        other_at: score of a specialised student's box of "other" from which on it hands the picture on.
        lenient: leave out detections of images that the ground truth lacks.
        split, first_pixel: see `formats.sets.load_set`; class_ids, image_ids: see `formats.results.Reading`.
    """

    other_at: float
    lenient: bool
    split: str
    first_pixel: int
    class_ids: str
    image_ids: str


def load_pair(
    files: Mapping[str, Source],
    scores: Callable[[Output], Mapping[str, FloatArray]],
    others: Mapping[str, Source] = NO_OTHERS,
    popular: Sequence[str | int] | None = None,
    *,
    remarks: dict[str, Mapping[str, int]] | None = None,
    **options: Unpack[Options],
) -> PairedRun:
    """Match two result files with the ground truth.

    A result file holds one number a box, so the only logit of a box is that of its score, log(s / (1 - s)).

    Args:
        files: `student` and `teacher`, result files in any form of `formats.results`, and `annotations`, the
            ground truth of the same images in any form of `formats.sets`. Without it the teacher's boxes
            stand in for objects, see `pseudo`; then `pictures`, of which objects are not looked at, tells
            which images and classes there are, or else the result files do.
        scores: the student's answers -> deferral scores by name.
        others: result files of further single models, by name.
        popular: names of the classes that a specialised student tells apart. Its boxes of "other" have the
            category id after the largest.
        remarks: gets, by file, what was odd and left out or taken all the same; it is said on stderr too.

    Raises InvalidInput as `load_annotations` and `load_results` do, or where there is no object to find.
    """
    other_at = options.get("other_at")
    _check_other_at(other_at, popular)
    _check_described(files)
    models = {"student": files["student"], "teacher": files["teacher"], **others}
    truth = _pictures(files, popular, options)
    classes = None if popular is None else Popular.of(popular, truth.class_names)
    results, oddities = _loaded(models, truth, classes, options)
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


def _pictures(
    files: Mapping[str, Source], popular: Sequence[str | int] | None, options: Options
) -> Annotations:
    """The annotated images; where there are no annotations, the images alone."""
    split, first_pixel = options.get("split"), options.get("first_pixel")
    if "annotations" in files:
        truth = load_set(files["annotations"], split, first_pixel)
        if all(image.crowd.all() for image in truth.truths):
            raise InvalidInput(
                f"Expected an annotated object that is no crowd in `{files['annotations']}`, got none."
            )
        return truth
    if "pictures" in files:
        return load_set(files["pictures"], split, first_pixel, objects_too=False)
    if popular is not None:
        raise InvalidInput(
            "Expected `annotations` or `pictures` beside a specialised student, got result files alone, "
            "which name no classes."
        )
    say(
        "Note: no file names the classes, they go by their ids. A router for live models needs names, of "
        "`pictures`."
    )
    return pictures_of_results([as_cocos(files[side], None) for side in ("student", "teacher")])


def _loaded(
    files: Mapping[str, Source], truth: Annotations, classes: Popular | None, options: Options
) -> tuple[dict[str, tuple[Results, ...]], dict[str, dict[str, int]]]:
    """The results in each file, those of a specialised student in its `classes`, and what was odd in each."""
    oddities: dict[str, dict[str, int]] = {}
    results, described = {}, any(truth.file_names) or bool(truth.sizes.any())
    lenient, first_pixel = options.get("lenient", False), options.get("first_pixel", 1)
    reading = Reading(options.get("class_ids"), options.get("image_ids", "ids"), first_pixel)
    for name, path in files.items():
        expected = narrow_annotations(truth, classes) if classes and name == "student" else truth
        entries = as_cocos(path, expected if described else None, reading)
        results[name] = load_results(entries, expected, lenient, oddities.setdefault(name, {}))
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
        return pictures_of_results([as_cocos(source, None) for source in outputs.values()]).class_names
    return names_of(described)


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
