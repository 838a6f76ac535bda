"""Detections in memory, ours or supervision's, as COCO's list."""

from collections.abc import Mapping

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.memory import InMemory
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Entry, Id, positions_by_name
from ebjr_det.tasks.detection.coco.results import entries
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.formats.class_ids import FROM_0, by_names, check_ordered, of_numbers

FROM_SUPERVISION = ("xyxy", "confidence", "class_id")


def are_detections(content: object) -> bool:
    """Whether something is a mapping from pictures to `Detections`, ours or supervision's."""
    values = list(content.values()) if isinstance(content, Mapping) else []
    return bool(values) and all(
        isinstance(value, Detections) or all(hasattr(value, name) for name in FROM_SUPERVISION)
        for value in values
    )


def entries_of(source: InMemory, truth: Annotations, class_ids: str | None) -> list[Entry]:
    """A mapping from pictures, by id or name of their file, to `Detections` as COCO's list.

    Classes of supervision's are known by the names in `data["class_name"]` where there are some.

    Raises:
        InvalidInput: detections without confidences or classes, or of unknown classes.
    """
    content = source.content
    assert isinstance(content, Mapping)
    by_file = positions_by_name(truth.file_names)
    listed, ids_by_name = list[Entry](), _ids_by_name(content, truth, source)
    for key, value in content.items():
        named = isinstance(key, str) and key in by_file
        image: Id = truth.image_ids[by_file[key]] if named else key
        if isinstance(value, Detections):
            answer, ids = value, dict(enumerate(truth.category_ids))
        else:
            answer = Detections.from_supervision(value)
            if names := _names(value):
                labels = answer.labels.tolist()
                ids = {label: ids_by_name[name] for label, name in zip(labels, names, strict=True)}
            else:
                if class_ids is None:
                    check_ordered(truth, source)
                numbers = of_numbers(truth, FROM_0 if class_ids is None else class_ids)
                ids = {int(number): category for number, category in numbers.items()}
        if beyond := [label for label in answer.labels.tolist() if label not in ids]:
            raise InvalidInput(
                f"Expected classes of the {len(ids)} that are annotated in `{source}`, got {beyond[0]}."
            )
        listed += entries(answer, image, ids)
    return listed


def _names(value: object) -> list[str]:
    """The names of the classes of one picture's supervision detections; none where they have none."""
    return [str(name) for name in getattr(value, "data", {}).get("class_name", ())]


def _ids_by_name(content: Mapping[object, object], truth: Annotations, source: InMemory) -> dict[str, int]:
    names = sorted({name for value in content.values() for name in _names(value)})
    return dict(zip(names, by_names(truth, names, source), strict=True))
