"""How a run of several tiers is looked at: one plain value, saved beside the records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.config.target import Target
from ebjr_det.core.cost import Cost
from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tiers import Topology
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.evaluation.run_folder import TIERS
from ebjr_det.io.files import existing_file
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
class Chosen:
    """A chain at work: its tiers in order, and of each but the last the score and the finite threshold.

    Attributes:
        rate: the share of what reaches a tier that goes past it, where its threshold was left open.
    """

    tiers: tuple[str, ...]
    scores: tuple[str, ...]
    thresholds: tuple[float, ...]
    rate: float | None = None
    topology: Topology = "cascade"

    @property
    def senders(self) -> tuple[str, ...]:
        """For each threshold the tier whose score it is for."""
        return self.tiers[:-1] if self.topology == "cascade" else self.tiers[:1] * len(self.scores)


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
        scores: by tier, its own score in place of `score`.
        chosen: the chain that a run leaves for live use, whatever made it: settings, a rate or the target.

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
    scores: Mapping[str, str] = field(default_factory=dict)
    chosen: Chosen | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_replicates(self.replicates)
        check_tier_target(self.target, timed="latency_ms" in self.costs)

    def score_of(self, tier: str) -> str:
        """What passes images on from a tier, by name or `auto`."""
        return self.scores.get(tier, self.score)

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


def check_tier_target(target: Target | None, timed: bool) -> None:
    """Raises ConfigError for a target of another kind, or one of times where not all are known."""
    if target is None:
        return
    if target.kind not in TARGETS or target.confidence is not None:
        raise ConfigError(f"Expected a target of {', '.join(TARGETS)} for tiers, got {target.to_dict()}.")
    if target.kind == "latency_ms" and not timed:
        raise ConfigError(
            "Expected the ms of every tier beside a target of latency, got a tier without. Give "
            "NAME=FILE:MACS:MS, of a configuration `latency.measure`."
        )


_ADAPTER = TypeAdapter(TieredAnalysis)


def load_tiered_analysis(folder: Path) -> TieredAnalysis:
    """How a finished run of several tiers is looked at. Raises InvalidInput for none, or a damaged one."""
    path = existing_file(folder / TIERS, "a finished run of several tiers with its analysis")
    return TieredAnalysis.from_json(path.read_bytes())
