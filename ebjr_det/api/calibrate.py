"""`calibrate`: a threshold for a target, chosen on one set of images and reported on another."""

from dataclasses import dataclass
from pathlib import Path

from ebjr_det.api.calibrate_tiers import TieredCalibration, calibrate_tiers
from ebjr_det.api.settings import check_split
from ebjr_det.config.target import Target
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import score_of, select, sweep
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.calibrated import Calibrated, Live, check_disjoint, split
from ebjr_det.evaluation.certify import choose
from ebjr_det.evaluation.report import unseen
from ebjr_det.evaluation.run_folder import TIERS, check_same_pair, load_folder
from ebjr_det.reporting.calibrated import table, threshold_line, verdict
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.tasks import load_task


@dataclass(frozen=True, repr=False)
class CalibrateResult(PrintedResult, Calibrated):
    """A calibrated threshold that tells whether its target is met."""

    def overview(self) -> Overview:
        """Whether the target is met on other images, and both sets of images side by side."""
        return Overview(f"{verdict(self)} {threshold_line(self)}", table(self))


def calibrate(
    run_dir: str | Path,
    target: Target,
    *,
    report_on: str | Path | None = None,
    score: str | None = None,
    fraction: float = 0.5,
    seed: int = 0,
    batch_size: int | None = None,
) -> CalibrateResult | TieredCalibration:
    """A threshold that meets the target on one set of images, and what it does on another.

    Args:
        run_dir: a run folder; without `report_on` a seeded `fraction` of it calibrates, the rest reports. One
            of several tiers gives the thresholds of them all.
        report_on: another run folder of the same pair on other images.
        score: by default the run's own.
        batch_size: of the latencies, by default that of the run's report.

    Raises:
        Infeasible: no point meets the target; carries the nearest.
        InvalidInput: the two sets share an image, come from different pairs, or labels judged one alone; or
            an image would be reported on that calibrated a network in eight bits.

    Example:
        >>> from ebjr_det import Target, calibrate
        >>> result = calibrate("runs/digits", Target("deferral_rate", 0.25))
        >>> result.chosen.deferral_rate <= 0.25
        True
    """
    if (Path(run_dir) / TIERS).is_file():
        if report_on is not None or batch_size is not None:
            raise ConfigError("Expected neither --report-on nor --batch-size of a run of tiers, got one.")
        return calibrate_tiers(Path(run_dir), target, score=score, fraction=fraction, seed=seed)
    run, analysis = load_folder(Path(run_dir))
    task, cost = load_task(run.task).judge(), analysis.cost
    cost = cost if batch_size is None else cost.at_batch(batch_size)
    source, ids, selected = Path(run_dir), run.image_ids, analysis.selection
    run = unseen(run, task, analysis)
    name = score or analysis.score
    score_of(run, name)  # refused before the split
    if report_on is None:
        chosen_on, reported_on = (select(run, task, part) for part in split(run, fraction, seed))
    else:
        chosen_on, (reported_on, reported_analysis) = run, load_folder(Path(report_on))
        source, ids, selected = Path(report_on), reported_on.image_ids, reported_analysis.selection
        check_same_pair(analysis, reported_analysis)
        reported_on = unseen(reported_on, task, reported_analysis)
        check_disjoint(chosen_on, reported_on)
    if selected is None:  # a router that was chosen has left them out
        check_split(source, ids, reported_on.image_ids)
    curve, reported_curve = (sweep(part, task, name, cost) for part in (chosen_on, reported_on))
    chosen = choose(chosen_on, task, curve, target)
    reported = reported_curve.of_decision(decide(score_of(reported_on, name), chosen.threshold))
    return CalibrateResult(
        target,
        task.quality_name,
        curve,
        chosen,
        reported_curve,
        reported,
        seed=seed,
        run_dir=str(run_dir),
        estimated=run.estimated,
        live=_live(analysis) if batch_size is None else None,
    )


def _live(analysis: Analysis) -> Live | None:
    """The pair as a run has measured it, None where it has not."""
    rate, live = analysis.live_deferral_rate, analysis.live
    expected = None if rate is None else analysis.cost.latency_ms(rate)
    return None if rate is None or live is None or expected is None else Live(rate, live.mean, expected)
