"""A detector's answer to one picture, for people and for programs."""

from collections.abc import Iterator
from typing import Any

from PIL import Image

from ebjr_det.core.types import Detections
from ebjr_det.tasks.detection.coco.results import entries
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.draw import COLORS, draw_boxes, label


def annotate(
    picture: Image.Image, answer: Detections, named: Named, least_score: float, *, side: int = 0
) -> Image.Image:
    """The picture with the boxes of at least this score, class and score beside each.

    Args:
        side: of the result's longer side in pixels; by default that of the picture, at least 480.
    """
    shown = answer.scores >= least_score
    names = list(named.categories.values())
    labels = answer.labels[shown].tolist()
    scores = answer.scores[shown].tolist()
    texts = [label(names[place], score) for place, score in zip(labels, scores, strict=True)]
    colors = [COLORS[place % len(COLORS)] for place in labels]
    return draw_boxes(picture, answer.boxes[shown], texts, colors, side=side)


def to_entries(answer: Detections, image_id: int, named: Named) -> Iterator[dict[str, Any]]:
    """All boxes as entries of a COCO result file."""
    return entries(answer, image_id, list(named.categories))
