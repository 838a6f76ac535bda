"""Which class a number in a result file is: a category's id, a place from 0 or 1, or COCO's id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.tasks.detection.coco.annotations import Annotations
from ebjr_det.tasks.detection.coco.ids import Id
from ebjr_det.tasks.detection.formats.described import describe, description_at
from ebjr_det.tasks.detection.networks.classes import UNUSED, coco_names

IDS, FROM_0, FROM_1, COCO_91 = "ids", "from-0", "from-1", "coco-91"
COUNTED = f"{FROM_1}:"
"""What stands before a data.yaml whose names are counted from 1, as in Ultralytics' predictions.json."""
READINGS = (IDS, FROM_0, FROM_1, COCO_91)
SHOWN = 3  # classes in a message
UNKNOWN = -1
"""The category id of a class that is not annotated; such detections are left out and counted."""


def of_numbers(truth: Annotations, reading: str) -> Mapping[Id, int]:
    """The category id that each number stands for.

    Args:
        reading: one of `READINGS`, or a data.yaml (see `described`) whose `names` the numbers count from 0,
            with `from-1:` before it from 1; they are then looked for among the annotated classes.

    Raises:
        ConfigError: an unknown reading.
        InvalidInput: a faulty data.yaml, or one of which no class is annotated.
    """
    file = reading.removeprefix(COUNTED)
    if reading not in READINGS and description_at(Path(file)) is not None:
        names = list(describe(Path(file)).classes.values())
        return dict(enumerate(by_names(truth, names, file), start=int(file != reading)))
    check_known(reading, READINGS, "a way to read class numbers (or a data.yaml)")
    ids = truth.category_ids
    if reading == IDS:
        return {key: key for key in ids}
    if reading == COCO_91:
        used = [key for key, name in coco_names().items() if name not in UNUSED]
        return dict(zip(used, ids, strict=True)) if len(used) == len(ids) else {}
    return dict(enumerate(ids, start=int(reading == FROM_1)))


def by_names(truth: Annotations, names: Sequence[str], origin: object) -> list[int]:
    """The category id of each name, `UNKNOWN` of one that is not annotated.

    Raises InvalidInput where none is, or where one is that of two annotated classes.
    """
    ids = ids_by_name(truth, origin)
    if names and not any(name in ids for name in names):
        raise InvalidInput(
            f"Expected annotated classes in `{origin}`, such as `{truth.class_names[0]}`, got `{names[0]}` "
            "and others. Rename them in one of the files."
        )
    return [ids.get(name, UNKNOWN) for name in names]


def ids_by_name(truth: Annotations, origin: object) -> dict[str, int]:
    """The category id of each annotated class. Raises InvalidInput where two have one name."""
    ids = dict(zip(truth.class_names, truth.category_ids, strict=True))
    if len(ids) < len(truth.class_names):
        name = next(name for name in ids if truth.class_names.count(name) > 1)
        raise InvalidInput(
            f"Expected annotated classes of distinct names, by which those of `{origin}` are known, got "
            f"`{name}` more than once. Rename it, or give results with class numbers."
        )
    return ids


def check_ordered(truth: Annotations, origin: object) -> None:
    """Raises ConfigError where numbers count classes to which nobody gave an order, as in VOC's folders."""
    if not truth.ordered:
        names = ", ".join(f"{index} {name}" for index, name in enumerate(truth.class_names[:SHOWN]))
        raise ConfigError(
            f"Expected to know which classes the numbers in `{origin}` count, got annotations in VOC's form, "
            "which has no order of classes. Name the model's data.yaml, --class-ids FILE, or take them by "
            f"alphabet: --class-ids {FROM_0} ({names}{' ...' * (len(truth.class_names) > SHOWN)})."
        )


@dataclass(frozen=True)
class Decision:
    """How the numbers of a file are read: the category id of each, and what to say of it, if anything."""

    ids: Mapping[Id, int]
    note: str = ""


def decide(truth: Annotations, numbers: set[Id], origin: object, *, renumbered: bool) -> Decision:
    """How the numbers of a file are read where nobody says it.

    A file of Ultralytics counts classes from 0, from 1 or as COCO does, by its version; one reading that fits
    alone is taken and said. Another file has the ids of the annotated categories.

    Args:
        numbers: all that the file has; renumbered: whether it is known to have another tool's numbers.

    Raises:
        ConfigError: more than one reading fits, or another one than the ids.
    """
    as_ids = of_numbers(truth, IDS)
    if not renumbered and numbers <= as_ids.keys():
        return Decision(as_ids)
    readings = {name: of_numbers(truth, name) for name in READINGS}
    fitting = {name: ids for name, ids in readings.items() if numbers <= ids.keys()}
    if not fitting:
        return Decision(as_ids)
    meanings = {tuple(ids[number] for number in numbers): name for name, ids in reversed(fitting.items())}
    if len(meanings) > 1 or not renumbered:
        flags = " or ".join(f"--class-ids {name}" for name in meanings.values())
        raise ConfigError(
            f"Expected class numbers of one meaning in `{origin}`, got {_range(numbers)} beside annotated "
            f"ids {_range(set(truth.category_ids))}. Say what they are: {flags}."
        )
    name = next(iter(meanings.values()))
    note = f"Note on `{origin}`: its class numbers, {_range(numbers)}, are read {name}."
    return Decision(fitting[name], "" if name == IDS else note)


def _range(numbers: set[Id] | set[int]) -> str:
    ordered = sorted(numbers, key=lambda number: (isinstance(number, str), number))
    return f"{ordered[0]} to {ordered[-1]}"
