"""A run's detections and annotations as COCO's JSON files, which `replay` and any other tool reads."""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Detections, Matches
from ebjr_det.io.files import atomic_write
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Id


def entries(found: Detections, image_id: int, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """One image's detections as entries of a COCO result file, best first."""
    sides = np.concatenate([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], axis=1)
    for box, score, label in zip(sides.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True):
        yield {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}


def write_results(matches: Matches, image_ids: Sequence[Id], category_ids: Sequence[int], path: Path) -> None:
    """A model's kept detections as a COCO result file, image by image, best first; `.json.gz`."""
    owners = np.repeat(np.arange(len(matches["counts"])), matches["counts"])
    order = np.lexsort((matches["rank"], -matches["score"], owners))
    columns = (owners, matches["label"], matches["box"], matches["score"])
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    _write(
        [
            {
                "image_id": image_ids[owner],
                "category_id": category_ids[label],
                "bbox": box,
                "score": score,
            }
            for owner, label, box, score in rows
        ],
        path,
    )


def write_annotations(annotations: Annotations, path: Path) -> None:
    """The annotated set as a COCO file; `.json.gz`. Annotation ids count from 1."""
    images = [
        {"id": image, "file_name": name, "width": int(width), "height": int(height)}
        for image, name, (width, height) in zip(
            annotations.image_ids, annotations.file_names, annotations.sizes, strict=True
        )
    ]
    objects = [
        {
            "image_id": image,
            "category_id": annotations.category_ids[label],
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for image, truth in zip(annotations.image_ids, annotations.truths, strict=True)
        for label, box, area, crowd in zip(
            truth.labels.tolist(), truth.boxes.tolist(), truth.areas.tolist(), truth.crowd, strict=True
        )
    ]
    for number, entry in enumerate(objects, start=1):
        entry["id"] = number
    categories = [
        {"id": number, "name": name}
        for number, name in zip(annotations.category_ids, annotations.class_names, strict=True)
    ]
    _write({"images": images, "categories": categories, "annotations": objects}, path)


def detections_of(matches: Matches, image: int) -> tuple[Detections, NDArray[np.bool_]]:
    """One image's kept detections, best first, and which of them match an object at an IoU of 0.5."""
    start = int(matches["counts"][:image].sum())
    own = slice(start, start + int(matches["counts"][image]))
    order = np.argsort(-matches["score"][own], kind="stable")
    box, score, label, matched = (matches[key][own][order] for key in ("box", "score", "label", "matched"))
    corners = np.concatenate([box[:, :2], box[:, :2] + box[:, 2:]], axis=1)
    return Detections(corners, score, label.astype(np.intp)), (matched & np.uint64(1)).astype(bool)


def _write(content: Any, path: Path) -> None:
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    with atomic_write(path) as temporary:
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
