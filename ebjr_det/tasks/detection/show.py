"""A detector's answer to one picture, for people and for programs."""

from collections.abc import Iterator

from PIL import Image

from ebjr_det.tasks.detection.coco.ids import Entry
from ebjr_det.tasks.detection.coco.results import entries
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.draw import COLORS, draw_boxes, label


def annotate(
    picture: Image.Image, answer: Detections, named: Named, least_score: float, *, side: int = 0
) -> Image.Image:
    """The picture with the boxes of at least this score, class and score beside each.

    Args:
        side: of the result's longer side in pixels; by default that of the picture, at least 480.
    """
    drawn, names = answer.scores >= least_score, list(named.categories.values())
    labels, scores = answer.labels[drawn].tolist(), answer.scores[drawn].tolist()
    texts = [label(names[index], score) for index, score in zip(labels, scores, strict=True)]
    colors = [COLORS[index % len(COLORS)] for index in labels]
    return draw_boxes(picture, answer.boxes[drawn], texts, colors, side=side)


def to_entries(answer: Detections, image_id: int, named: Named) -> Iterator[Entry]:
    """All boxes as entries of a COCO result file."""
    return entries(answer, image_id, list(named.categories))
