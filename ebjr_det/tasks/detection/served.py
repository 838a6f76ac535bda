"""A detector from an exported folder: a network that runs, and what was told of what surrounds it."""

from collections.abc import Mapping, Sequence

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array
from ebjr_det.runtimes.registry import Network
from ebjr_det.tasks.detection.data import Named
from ebjr_det.tasks.detection.networks.detector import Detector, Surroundings
from ebjr_det.tasks.detection.networks.framed import FramedDetector, FramedSurroundings, check_framed


def build_served(name: str, fields: Mapping[str, object], run: Network) -> Detector | FramedDetector:
    """A detector from the fields that the `to_dict` of its surroundings gave and a network that runs."""
    if "frame" in fields:
        around = FramedSurroundings.from_dict(fields)
        return FramedDetector(name, around.frame, around.head, around.classes, run)
    return Detector(name, Surroundings.from_dict(fields), run)


def check_served(
    model: Detector | FramedDetector, shape: tuple[int, ...], raw: Sequence[Array], classes: int
) -> None:
    """Raises InvalidInput for a network whose outputs are not those of its surroundings.

    Args:
        shape: of its input, [3, h, w]; raw: its outputs for one image; classes: that it tells apart.
    """
    if isinstance(model, FramedDetector):
        check_framed(model, shape, raw, classes)
        return
    around, shapes = model.around, [output.shape for output in raw]
    anchors = len(around.anchors.boxes)
    features = [(1, *output[1:2]) for output in shapes[2:3]]  # of any width
    expected = [(1, anchors, around.classes.outputs), (1, anchors, 4), *features, (1, anchors)]
    if shapes != expected or shape != (3, *around.letterbox.size) or len(around.classes.columns) != classes:
        raise InvalidInput(
            f"Expected {classes} classes and outputs of {anchors} anchors, got {list(map(list, shapes))}."
        )


def name_classes(classes: Mapping[int, str]) -> Named:
    """The classes of the data, category id -> name, as answers want them."""
    return Named(dict(sorted(classes.items())))
