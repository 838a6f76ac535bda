"""What annotation tools leave out of COCO's form, or add to it: CVAT, Label Studio, Roboflow."""

from collections.abc import Sequence

from ebjr_det.tasks.detection.coco.ids import Entry

GROUP = "category that groups all others, as Roboflow writes it, left out"
OUTLINES = "outlines without a box taken as the box round them"


def without_group(categories: list[Entry], objects: Sequence[Entry]) -> tuple[list[Entry], int]:
    """The categories without one that groups all others and that no object has, and how many that were.

    >>> pets = {"id": 0, "name": "pets", "supercategory": "none"}
    >>> cat = {"id": 1, "name": "cat", "supercategory": "pets"}
    >>> without_group([pets, cat], []) == ([cat], 1), without_group([pets], [])[1]
    (True, 0)
    """
    for group in categories:
        members = [entry for entry in categories if entry is not group]
        name = group.get("name")
        over = bool(members and name) and all(entry.get("supercategory") == name for entry in members)
        if (
            over
            and group.get("supercategory") in (None, "", "none")
            and not any(entry.get("category_id") == group.get("id") for entry in objects)
        ):
            return members, 1
    return categories, 0


def boxes_of(objects: Sequence[Entry]) -> tuple[list[object], int]:
    """What each object has as its box, else the box round its outline, and how many have that alone.

    >>> boxes_of([{"segmentation": [[1, 2, 5, 2, 5, 4]]}, {"bbox": [0, 0, 1, 1]}])
    ([[1, 2, 4, 2], [0, 0, 1, 1]], 1)
    """
    boxes, outlines = list[object](), 0
    for entry in objects:
        box = entry.get("bbox")
        if box in (None, []) and (points := _points(entry.get("segmentation"))):
            xs, ys = points[::2], points[1::2]
            box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
            outlines += 1
        boxes.append(box)
    return boxes, outlines


def _points(segmentation: object) -> list[float]:
    """The coordinates of an outline of polygons, x and y in turn; none of any other."""
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        return []
    points = [value for part in segmentation for value in part]
    sound = all(type(value) in (int, float) for value in points) and not len(points) % 2
    return points if sound else []
