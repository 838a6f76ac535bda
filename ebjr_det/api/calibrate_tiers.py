"""`calibrate` of several tiers: thresholds of all at once for a target, as a configuration can hold them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ebjr_det.api.settings import check_split
from ebjr_det.api.tiers import load_tiered_folder
from ebjr_det.config.target import Target
from ebjr_det.core.cost import Cost
from ebjr_det.core.types import Task
from ebjr_det.evaluation.tiers.analysis import TieredAnalysis
from ebjr_det.evaluation.tiers.choice import Choice, Chooser, at_work
from ebjr_det.evaluation.tiers.report import calibrated
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.reporting.tiers.tables import choice_table
from ebjr_det.tasks import load_task


@dataclass(frozen=True, repr=False)
class TieredCalibration(PrintedResult):
    """A chain for a target, chosen on one part of the images and judged on the rest.

    Attributes:
        analysis: with the target; `images`: how many the choice did not see.
        named: by tier the score that the run's settings name, with whose options it was recorded.
    """

    task: Task
    analysis: TieredAnalysis
    target: Target
    choice: Choice
    images: int
    named: Mapping[str, str]

    @property
    def met(self) -> bool:
        """Whether the target is met on the images that the choice did not see."""
        if self.target.kind == "min_quality":
            return self.choice.quality >= self.target.value - 1e-12
        kind: Cost = "macs" if self.target.kind == "macs" else "latency_ms"
        return self.choice.cost(self.analysis.costs[kind]) <= self.target.value * (1 + 1e-12)

    @property
    def changes(self) -> list[str]:
        """The thresholds as `--set` takes them for the configuration of the chosen tiers, in their order.

        Whatever else the router of a tier has stays, without the options of another score. A tier that the
        choice leaves out is to be left out of that configuration first.
        """
        chosen = self.choice.chosen
        changes = ["router.target=null"]
        changes += [f"topology={chosen.topology if len(chosen.tiers) > 2 else 'null'}"]
        for index, (sender, name) in enumerate(zip(chosen.senders, chosen.tiers, strict=False)):
            if sender == name:
                changes += [f"tiers.{index}.router.score={chosen.scores[index]}"]
                recorded_with_options = self.named.get(name) == chosen.scores[index]
                changes += [] if recorded_with_options else [f"tiers.{index}.router.options={{}}"]
            changes += [f"tiers.{index}.router.threshold={chosen.thresholds[index]!r}"]
        return changes

    def overview(self) -> Overview:
        """Whether the target is met on other images, and the thresholds."""
        state = "met" if self.met else "MISSED"
        sentence = f"The target is {state} on {self.images:,} images that the choice did not see."
        left_out = [t.name for t in self.analysis.tiers if t.name not in self.choice.chain.tiers]
        if left_out:
            sentence += f" Leave out {', '.join(left_out)}."
        return Overview(sentence, choice_table(self.task, self.analysis, self.choice))

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        head = {"feasible": True, "target": self.target.to_dict(), "met": self.met, "images": self.images}
        return head | self.choice.to_dict(self.analysis.costs) | {"settings": self.changes}


def calibrate_tiers(
    folder: Path, target: Target, *, score: str | None, fraction: float, seed: int
) -> TieredCalibration:
    """The best chain of two and more of a run's tiers for a target, whose thresholds are finite.

    Raises:
        Infeasible: nothing meets the target.
        EbjrError: no finished run of tiers, or a target that tiers do not have.
    """
    run, analysis = load_tiered_folder(folder)
    choosing, named = analysis.fraction, analysis.scores
    analysis = replace(
        analysis, target=target, fraction=fraction, seed=seed, chosen=None, score=score or analysis.score,
        scores=analysis.scores if score is None else {},
    )  # fmt: skip
    task = load_task(run.task).judge()
    fronts = calibrated(run, task, analysis)
    check_split(folder, run.image_ids, fronts.reported.image_ids, choosing)
    chooser = Chooser(fronts.reported, task, at_work(fronts.fronts))
    choice = chooser.for_target(target, analysis.costs)
    return TieredCalibration(task, analysis, target, choice, len(fronts.reported), named)
