"""How a run of several tiers is looked at: one plain value, saved beside the records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.config.target import Target
from ebjr_det.core.cost import Cost
from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.io.third_party import first_fault

AUTO = "auto"
TARGETS = ("macs", "latency_ms", "min_quality")


@dataclass(frozen=True)
class Tier:
    """A model's name and what it costs alone, an image."""

    name: str
    macs: float
    latency_ms: float | None = None


@dataclass(frozen=True)
class TieredAnalysis:
    """How a run of several tiers is looked at.

    Attributes:
        tiers: in order.
        score: of every tier but the last, or `auto`: on the calibration images the best of each tier for the
            one that it passes on to.
        target: what thresholds are wanted for: `macs` or `latency_ms` at most, or `min_quality`.
        fraction: of the images, that choose; `seed`: of that part and of the bootstrap.
        remarks: by input file, how often something odd was left out or taken all the same.

    Raises:
        ConfigError: a seed or a number of replicates that cannot be, another kind of target, or one of times
            that are unknown.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    title: str
    tiers: tuple[Tier, ...]
    score: str = AUTO
    target: Target | None = None
    fraction: float = 0.5
    seed: int = 0
    replicates: int = 1000
    remarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_replicates(self.replicates)
        if self.target is None:
            return
        if self.target.kind not in TARGETS or self.target.confidence is not None:
            raise ConfigError(
                f"Expected a target of {', '.join(TARGETS)} for tiers, got {self.target.to_dict()}."
            )
        if self.target.kind == "latency_ms" and "latency_ms" not in self.costs:
            raise ConfigError(
                "Expected the ms of every tier beside a target of latency, got a tier without. Give "
                "NAME=FILE:MACS:MS."
            )

    @property
    def costs(self) -> dict[Cost, dict[str, float]]:
        """By the kinds of cost that are known of every tier, what each costs alone."""
        columns = {kind: {tier.name: getattr(tier, kind) for tier in self.tiers} for kind in get_args(Cost)}
        return {kind: column for kind, column in columns.items() if None not in column.values()}

    def to_json(self) -> str:
        """The analysis as JSON, which `from_json` reads."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: bytes) -> "TieredAnalysis":
        """What `to_json` wrote. Raises InvalidInput with the first fault of anything else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                f"Expected an analysis of tiers as this version writes it, got {first_fault(error)}. "
                "Replay again."
            ) from error


_ADAPTER = TypeAdapter(TieredAnalysis)
