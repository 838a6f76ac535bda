"""What a report needs besides the run's records: one plain value, saved beside them.

Records and analysis together draw the whole report, without models, data or settings, byte for byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.config import Reference
from ebjr_det.config.target import Target
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import InvalidInput, check_seed
from ebjr_det.core.router import check_rate
from ebjr_det.core.tradeoff import OperatingPoint
from ebjr_det.core.types import PairedRun
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.evaluation.certify import share_interval
from ebjr_det.inference.latency import Latency
from ebjr_det.io.load import Load
from ebjr_det.io.third_party import first_fault
from ebjr_det.routing.drift import FittedUse


@dataclass(frozen=True)
class Profile:
    """What is known of one model besides its answers: name, measured latency, further exact numbers.

    Attributes:
        of_file: the name is that of a file of outputs, which tells one model from another for people alone.
    """

    name: str
    latency: Latency | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    of_file: bool = False


@dataclass(frozen=True)
class Calibration:
    """How a threshold was chosen: the seeded share of the images that it saw, and its point on them."""

    target: Target
    fraction: float
    seed: int
    images: int
    point: OperatingPoint

    def share_interval(self, images: int) -> tuple[float, float] | None:
        """What share of so many further images is to be expected, by `certify.share_interval`.

        None where the target is no share.
        """
        if self.target.kind != "deferral_rate":
            return None
        return share_interval(round(self.point.deferral_rate * self.images), self.images, images)

    def to_dict(self) -> dict[str, object]:
        """Plain values, those of the point among them."""
        choice = {"target": self.target.to_dict(), "fraction": self.fraction, "images": self.images}
        return choice | {"seed": self.seed} | self.point.to_dict()


@dataclass(frozen=True)
class Selection:
    """How a router was chosen on calibration images, every number out of fold.

    Attributes:
        images: how many there were; `candidates`: scores that could be chosen.
        score, rescaling: the choice; `best`, `best_rescaling`: what had the largest area.
        area: of the choice; `behind`: what it has less than the best; `error`: the standard error of that.
        published, random, oracle: areas of EBJR's score, of a coin and of the best order in hindsight.
        student_quality, teacher_quality: of both models there.
        decision_ms: what a decision takes for one picture, where it was measured.
    """

    images: int
    candidates: int
    score: str
    rescaling: str
    best: str
    best_rescaling: str
    area: float
    behind: float
    error: float
    published: float | None
    random: float
    oracle: float
    student_quality: float
    teacher_quality: float
    decision_ms: float | None = None


@dataclass(frozen=True)
class Analysis:
    """How a run is looked at.

    Attributes:
        score, formula: the deferral score that decides, and what it computes.
        threshold: images whose score is above it are deferred; infinite ones defer none or all.
        rates: deferral rates of the points to print; None prints the whole sweep in JSON.
        replicates, seed: of the bootstrap.
        live, live_deferral_rate: the pair measured on the live path, and its deferral rate there.
        batch_load: of the machine while further batch sizes were timed.
        calibration: None for a given threshold; otherwise the other images are reported.
        score_options: options of scores by the score's name, where any were set.
        class_names: by class index, or none where they are unknown.
        popular: names of the classes that a specialised student tells apart, in the order of all classes.
        unreadable: ids of images that were left out because they could not be decoded.
        remarks: by input file, how often something odd was left out or taken all the same.
        router: how a fitted router was used, if one was; `selection`: how it was chosen, where `auto` did.
        threshold_from: how the threshold came about: `given`, from a deferral `rate` on the reported images
            (which needs no label), or from a `target` on others; empty where an earlier version did not say.
        picked_among: among how many scores the deciding one was picked by its quality on the reported
            images; 0 where it was named beforehand.

    Raises:
        ConfigError: a deferral rate outside [0, 1], a seed or a number of replicates that cannot be.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    title: str
    score: str
    formula: str
    threshold: float
    student: Profile
    teacher: Profile
    cost: CostModel = field(default_factory=CostModel)
    rates: tuple[float, ...] | None = None
    replicates: int = 1000
    seed: int = 0
    live: Latency | None = None
    live_deferral_rate: float | None = None
    batch_load: Load | None = None
    calibration: Calibration | None = None
    score_options: Mapping[str, object] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    class_names: tuple[str, ...] = ()
    popular: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    remarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    router: FittedUse | None = None
    selection: Selection | None = None
    threshold_from: Literal["", "given", "rate", "target"] = ""
    picked_among: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_replicates(self.replicates)
        for rate in self.rates or ():
            check_rate(rate)

    def to_json(self) -> str:
        """As JSON, which has no infinity: an infinite threshold is the text `Infinity` or `-Infinity`."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str) -> "Analysis":
        """What `to_json` wrote. Raises InvalidInput with the first fault of anything else."""
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                f"Expected an analysis as this version writes it, got {first_fault(error)}. Evaluate again."
            ) from error


def titled(title: str, run: PairedRun) -> str:
    """A report's title, which says of numbers that no label judged that they are estimates."""
    return f"Estimated: {title}" if run.estimated else title


_ADAPTER = TypeAdapter(Analysis)
