"""A run's detections and annotations as COCO's JSON files, which `replay` and any other tool reads."""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Matches
from ebjr_det.io.files import atomic_write
from ebjr_det.tasks.detection.coco.annotations import Annotations, Results
from ebjr_det.tasks.detection.coco.ids import Entry, Id
from ebjr_det.tasks.detection.detections import Detections, to_corners, to_sides


def entries(
    answer: Detections, image_id: Id, category_ids: Sequence[int] | Mapping[int, int]
) -> Iterator[Entry]:
    """One image's detections as entries of a COCO result file, best first."""
    columns = to_sides(answer.boxes), answer.scores, answer.labels
    for box, score, label in zip(*(column.tolist() for column in columns), strict=True):
        yield {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}


def write_results(matches: Matches, image_ids: Sequence[Id], category_ids: Sequence[int], path: Path) -> None:
    """A model's kept detections as a COCO result file, image by image, best first; `.json.gz`."""
    images = np.repeat(np.arange(len(matches["counts"])), matches["counts"])
    order = np.lexsort((matches["rank"], -matches["score"], images))
    columns = (images, matches["label"], matches["box"], matches["score"])
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    write_json(
        [
            {"image_id": image_ids[image], "category_id": category_ids[label], "bbox": box, "score": score}
            for image, label, box, score in rows
        ],
        path,
    )


def write_annotations(annotations: Annotations, path: Path) -> None:
    """The annotated set as a COCO file, `.json` or `.json.gz`. Annotation ids count from 1."""
    images = [
        {"id": image, "file_name": name, "width": int(width), "height": int(height)}
        for image, name, (width, height) in zip(
            annotations.image_ids, annotations.file_names, annotations.sizes, strict=True
        )
    ]
    objects: list[Entry] = [
        {
            "image_id": image, "category_id": annotations.category_ids[label], "bbox": box, "area": area,
            "iscrowd": int(crowd),
        }
        for image, truth in zip(annotations.image_ids, annotations.truths, strict=True)
        for label, box, area, crowd in zip(
            truth.labels.tolist(), truth.boxes.tolist(), truth.areas.tolist(), truth.crowd, strict=True
        )
    ]  # fmt: skip
    for number, entry in enumerate(objects, start=1):
        entry["id"] = number
    categories = [
        {"id": number, "name": name}
        for number, name in zip(annotations.category_ids, annotations.class_names, strict=True)
    ]
    write_json({"images": images, "categories": categories, "annotations": objects}, path)


def detections_of(matches: Matches, image: int) -> tuple[Detections, NDArray[np.bool_]]:
    """One image's kept detections, best first, and which of them match an object at an IoU of 0.5."""
    start = int(matches["counts"][:image].sum())
    rows = slice(start, start + int(matches["counts"][image]))
    order = np.argsort(-matches["score"][rows], kind="stable")
    box, score, label, matched = (matches[key][rows][order] for key in ("box", "score", "label", "matched"))
    return Detections(to_corners(box), score, label.astype(np.intp)), (matched & np.uint64(1)).astype(bool)


def result_entries_of(
    results: Sequence[Results], image_ids: Sequence[Id], category_ids: Sequence[int]
) -> Iterator[Entry]:
    """Results as entries of a COCO result file, with the bits and in the order that they have."""
    for image, part in zip(image_ids, results, strict=True):
        columns = part.labels.tolist(), part.boxes.tolist(), part.scores.tolist()
        for label, box, score in zip(*columns, strict=True):
            yield {"image_id": image, "category_id": category_ids[label], "bbox": box, "score": score}


def write_json(content: object, path: Path) -> None:
    """Content as a whole JSON file; `.json.gz` is compressed."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    with atomic_write(path) as temporary:
        raw = text.encode()
        temporary.write_bytes(gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)
