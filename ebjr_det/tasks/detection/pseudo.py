"""Objects of pictures that nobody annotated, drawn from what the teacher says of them.

A box of score s is an object with probability s. Where the object lies, the teacher knows only roughly: its
centre is off by N(0, CENTRE sqrt(1 - s)) of the box's sides, the logarithm of each side by
N(0, SIDE sqrt(1 - s)). So the teacher is not right by definition, as it is where its confident boxes are
taken for truth: both models are matched against objects that neither of them knows. `eval/routing` has what
routers and curves from such objects are worth beside those from annotations.
"""

from collections.abc import Sequence
from dataclasses import replace
from reprlib import repr as shown
from zlib import crc32

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Output
from ebjr_det.io.memory import Source
from ebjr_det.tasks.detection.coco.annotations import NO_OBJECTS, Annotations, Results, Truth, result_entries
from ebjr_det.tasks.detection.coco.ids import Entry, Id, id_of, numbered
from ebjr_det.tasks.detection.detections import Detections, to_sides
from ebjr_det.tasks.detection.metric import Target

CENTRE, SIDE = 0.1, 0.2
"""Standard deviations of centre and log side at a score of 0. Between the boxes of YOLO11n and YOLOv5n and
annotated objects that they match (IoU >= 0.5), on 1,444 pictures of COCO val2017, they are .10 and .20 at
scores below .1, .08 and .15 at .5, .04 and .08 at .85, .02 and .05 at .93, whatever the size of the box.
"""


def targets(student: Output, teacher: Output, classes: int, image_ids: Sequence[str]) -> list[Target]:
    """What both models' answers on a batch are judged by where there are no annotations.

    The student's answers have no say: pooled with the teacher's, the estimated gap came out too small.
    """
    answers: Sequence[Detections] = teacher.predictions
    results = [Results(to_sides(a.boxes), a.scores, a.labels) for a in answers]
    return [Target(truth, classes) for truth in drawn_truths(results, image_ids)]


def drawn_truths(teacher: Sequence[Results], image_ids: Sequence[Id], seed: int = 0) -> tuple[Truth, ...]:
    """One draw of the objects in each picture, which hangs on its boxes, its id and the seed alone.

    One draw serves: routers fitted on three at once were no better (mean G .624 and .550, on average over the
    three alone .624 and .551).
    """
    seeds = ([seed, crc32(str(image).encode())] for image in image_ids)
    return tuple(map(_drawn, teacher, map(np.random.default_rng, seeds)))


def _drawn(results: Results, generator: np.random.Generator) -> Truth:
    is_object = generator.random(len(results)) < results.scores
    box, doubt = results.boxes[is_object], np.sqrt(1 - np.minimum(results.scores[is_object], 1))
    errors = generator.standard_normal((len(box), 4)) * doubt[:, None]
    sides = box[:, 2:] * np.exp(SIDE * errors[:, 2:])
    centres = box[:, :2] + box[:, 2:] / 2 + CENTRE * errors[:, :2] * box[:, 2:]
    boxes = np.concatenate([centres - sides / 2, sides], axis=1)
    return Truth(boxes, results.labels[is_object], sides.prod(axis=1), np.zeros(len(box), dtype=bool))


def pictures_of_results(paths: Sequence[Source]) -> Annotations:
    """The pictures and categories that result files tell of, without objects; a class is named by its id.

    A picture in which no model found anything is in no result file, and so is missing.

    Raises:
        InvalidInput: a damaged file; ids that are none, or numbers beside texts.
    """
    entries = [entry for path in paths for entry in result_entries(path)]
    images = _ids(entries, "image_id", paths)
    categories = numbered(_ids(entries, "category_id", paths), "category", paths[0])
    return Annotations(
        images,
        file_names=("",) * len(images),
        sizes=np.zeros((len(images), 2), dtype=np.intp),
        category_ids=categories,
        class_names=tuple(map(str, categories)),
        truths=(NO_OBJECTS,) * len(images),
    )


def _ids(entries: Sequence[Entry], key: str, paths: Sequence[Source]) -> tuple[Id, ...]:
    """The distinct ids under a key, ascending."""
    ids = {id_of(entry.get(key)) for entry in entries}
    numbers = [value for value in ids if isinstance(value, int)]
    texts = [value for value in ids if isinstance(value, str)]
    if len(ids) not in (len(numbers), len(texts)):
        raise InvalidInput(
            f"Expected every `{key}` in {' and '.join(f'`{path}`' for path in paths)} to be a whole number, "
            f"or every one a text, got {shown(next(iter(texts or ids - {*numbers})))} among others."
        )
    return tuple(sorted(numbers) or sorted(texts))


def with_drawn_objects(pictures: Annotations, teacher: Sequence[Results]) -> Annotations:
    """The pictures with one draw of objects in place of annotations. Raises InvalidInput for none at all."""
    truths = drawn_truths(teacher, pictures.image_ids)
    if not any(map(len, truths)):
        raise InvalidInput(
            f"Expected boxes of the teacher that could be objects, got none in {len(pictures)} pictures."
        )
    return replace(pictures, truths=truths)
