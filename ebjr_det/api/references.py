"""Further single models of a replay: what holds their answers, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ebjr_det.config import Reference
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError
from ebjr_det.io.memory import Source, described, source_of

FORM = "NAME=FILE:MACS or NAME=FILE:MACS:MS"
LONGEST_NAME = 60


@dataclass(frozen=True)
class ReferenceFile(Reference):
    """A single model by its answers on the same images, which then tell its quality.

    Attributes:
        file: a path, or what such a file would hold; see `SavedOutputs`.
    """

    quality: None = field(default=None, init=False)
    file: object = field(kw_only=True)

    @cached_property
    def answers(self) -> Source:
        """Where the answers are read from."""
        return source_of(self.name, self.file)

    @classmethod
    def parse(cls, text: str, noun: str = "reference") -> "ReferenceFile":
        """Read `NAME=FILE:MACS` or `NAME=FILE:MACS:MS`; a colon may be in FILE too.

        Args:
            noun: what messages call it.

        Raises:
            ConfigError: a part is missing, or a cost is no number.

        >>> ReferenceFile.parse("D1=results/d1.json:6.1e9:14.5").latency_ms
        14.5
        """
        name, _, answers = text.partition("=")
        parts = answers.split(":")
        costs = 2 if len(parts) > 2 and _is_number(parts[-2]) else 1
        file = ":".join(parts[:-costs])
        if not name or not file:
            raise ConfigError(f"Expected a {noun} as {FORM}, got {text!r}.")
        if not all(map(_is_number, parts[-costs:])):
            raise ConfigError(f"Expected a {noun} as {FORM} with numbers, got {parts[-1]!r} in {text!r}.")
        macs, *latency = map(float, parts[-costs:])
        return cls(name, macs, latency[0] if latency else None, file=Path(file))

    def to_dict(self) -> dict[str, str | float | None]:
        """Plain values, as the settings of a replay have them."""
        return {
            "name": self.name,
            "file": described(self.answers),
            "macs": self.macs,
            "latency_ms": self.latency_ms,
        }


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
    for unit, costs in sides.items():
        if costs.count(None) == 1:
            raise ConfigError(f"Expected the {unit} of both models or of neither, got one.")
    if references and cost.alone("macs") is None:
        raise ConfigError(
            "Expected the multiply-adds of student and teacher beside references, got none. "
            "Give --student-macs and --teacher-macs."
        )
    names = ["student", "teacher"]
    for reference in references:
        check_reference(reference)
        if reference.name in names:
            raise ConfigError(
                f"Expected a name of its own for every model, got `{reference.name}` twice. Rename it."
            )
        names.append(reference.name)


def check_reference(reference: ReferenceFile, noun: str = "reference") -> None:
    """Raises ConfigError for a name that no file can have, or a cost that cannot be."""
    name = reference.name
    if not name.isprintable() or not 0 < len(name) <= LONGEST_NAME or "/" in name:
        raise ConfigError(
            f"Expected a {noun}'s name of 1 to {LONGEST_NAME} printable letters without `/`, "
            f"got {name[: LONGEST_NAME + 1]!r}."
        )
    for unit, cost in (("multiply-adds", reference.macs), ("ms", reference.latency_ms)):
        if cost is not None and not 1e-9 <= cost <= 1e30:
            raise ConfigError(f"Expected the {unit} of {noun} `{name}` to be from 1e-9 to 1e30, got {cost}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
