"""Further single models of a replay: which file holds their answers, and what they cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError

FORM = "NAME=FILE:MACS or NAME=FILE:MACS:MS"
LONGEST_NAME = 60


class ReferenceFile(NamedTuple):
    """A single model's answers on the same images, MACs an image and, where known, ms an image."""

    name: str
    file: Path
    macs: float
    latency_ms: float | None = None

    @classmethod
    def parse(cls, text: str) -> "ReferenceFile":
        """Read `NAME=FILE:MACS` or `NAME=FILE:MACS:MS`; a colon may be in FILE too.

        Raises:
            ConfigError: a part is missing, or a cost is no number.

        >>> ReferenceFile.parse("D1=results/d1.json:6.1e9:14.5")[2:]
        (6100000000.0, 14.5)
        """
        name, _, rest = text.partition("=")
        parts = rest.split(":")
        costs = 2 if len(parts) > 2 and _is_number(parts[-2]) else 1
        file = ":".join(parts[:-costs])
        if not name or not file:
            raise ConfigError(f"Expected a reference as {FORM}, got {text!r}.")
        if not all(map(_is_number, parts[-costs:])):
            raise ConfigError(f"Expected a reference as {FORM} with numbers, got {parts[-1]!r} in {text!r}.")
        return cls(name, Path(file), *map(float, parts[-costs:]))


def check_costs(cost: CostModel, references: Sequence[ReferenceFile]) -> None:
    """Make sure that a pair of this cost can be compared with the references.

    Raises:
        ConfigError: half a cost; a reference whose name is taken or unfit for a file, a cost that is
            not positive, or references beside a student and teacher of unknown MACs.
    """
    sides = {
        "multiply-adds": (cost.student_macs, cost.teacher_macs),
        "ms": (cost.student_ms, cost.teacher_ms),
    }
    for what, costs in sides.items():
        if costs.count(None) == 1:
            raise ConfigError(f"Expected the {what} of both models or of neither, got one.")
    if references and cost.alone("macs") is None:
        raise ConfigError(
            "Expected the multiply-adds of student and teacher beside references, got none. "
            "Give --student-macs and --teacher-macs."
        )
    names = ["student", "teacher"]
    for one in references:
        _check_reference(one)
        names.append(one.name)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Expected a name of its own for every model, got `{twice}` twice. Rename it.")


def _check_reference(one: ReferenceFile) -> None:
    if not one.name.isprintable() or not 0 < len(one.name) <= LONGEST_NAME or "/" in one.name:
        raise ConfigError(
            f"Expected a reference's name of 1 to {LONGEST_NAME} printable letters without `/`, "
            f"got {one.name[: LONGEST_NAME + 1]!r}."
        )
    for what, value in (("multiply-adds", one.macs), ("ms", one.latency_ms)):
        if value is not None and not 1e-9 <= value <= 1e30:
            raise ConfigError(
                f"Expected the {what} of reference `{one.name}` to be from 1e-9 to 1e30, got {value}."
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
