"""A threshold from a target, chosen on one set of images and reported on another.

Targets: a budget (deferral rate, MACs, ms) or a floor (quality, drop against the teacher). A floor may
carry a confidence: then it holds for new images of the same distribution with that probability.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from ebjr_det.core.errors import ConfigError, Infeasible, InvalidInput, check_seed
from ebjr_det.core.router import operating_points
from ebjr_det.core.tradeoff import Budget, OperatingPoint, TradeoffCurve, score_of
from ebjr_det.core.types import FloatArray, PairedRun, Task

TargetKind = Literal["deferral_rate", "macs", "latency_ms", "min_quality", "max_drop"]
BUDGETS: tuple[Budget, ...] = ("deferral_rate", "macs", "latency_ms")


@dataclass(frozen=True)
class Target:
    """What is asked for.

    Attributes:
        kind: a budget (`deferral_rate`, `macs` an image, `latency_ms` an image: at most `value`) or a
            floor (`min_quality`: at least `value`; `max_drop`: quality at most `value` below the teacher).
        confidence: None, or the probability with which the floor holds on new images.
    """

    kind: TargetKind
    value: float
    confidence: float | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.value >= 0):
            raise ConfigError(f"Expected `{self.kind}` of at least 0, got {self.value}.")
        if self.kind == "deferral_rate" and self.value > 1:
            raise ConfigError(f"Expected a deferral rate in [0, 1], got {self.value}.")
        if self.kind in ("min_quality", "max_drop") and self.value > 1:
            raise ConfigError(
                f"Expected `{self.kind}` in [0, 1], got {self.value}. Qualities are shares, not percent."
            )
        if self.confidence is None:
            return
        if self.kind in BUDGETS:
            raise ConfigError(
                f"Expected `confidence` with `min_quality` or `max_drop`, got it with `{self.kind}`."
            )
        if not 0 < self.confidence < 1:
            raise ConfigError(f"Expected a confidence in (0, 1), got {self.confidence}.")


def check_target(target: Target, task: Task) -> None:
    """Raises ConfigError for a confidence where the task's quality is no mean of right and wrong."""
    if target.confidence is not None and not task.mean:
        raise _no_mean(task)


def _no_mean(task: Task) -> ConfigError:
    return ConfigError(
        f"Expected a quality that is a mean over images for `confidence`, got {task.quality_name}."
    )


def choose(run: PairedRun, task: Task, curve: TradeoffCurve, target: Target) -> OperatingPoint:
    """The operating point of `curve` (of `run`, the calibration images) that meets the target.

    A budget gives the highest quality within it, for the deferral rate simply the largest rate allowed;
    a floor gives the cheapest point above it.

    Raises:
        Infeasible: no point meets it; carries the nearest.
        ConfigError: a cost that this run does not know, a confidence for a metric without right and wrong.
    """
    if target.kind == "deferral_rate":
        return curve.at_rate(target.value)
    if target.kind in BUDGETS:
        return curve.best_under(target.kind, target.value)
    if target.confidence is not None:
        return _certified(run, task, curve, target)
    drop = target.kind == "max_drop"
    return curve.cheapest_above(curve.teacher_quality - target.value if drop else target.value)


def shortfall_bound(
    run: PairedRun, task: Task, score: str, confidence: float, against_teacher: bool
) -> FloatArray:
    """Upper confidence bound, at every operating point [P], of what a floor limits.

    With `against_teacher` that is the drop E[teacher right] - E[joint right]; only images that stay with
    the student count, and it equals P(only the teacher right) - P(only the student right). Each
    probability gets an exact binomial (Clopper-Pearson) bound at half of 1 - confidence. Otherwise it is
    the error rate E[joint wrong], with one such bound. Rejecting "the shortfall exceeds e" where the
    bound is at most e is a valid test at level 1 - confidence for each fixed threshold.

    Raises:
        ConfigError: the task's quality is no mean of right and wrong.
    """
    student, teacher = task.right(run.student), task.right(run.teacher)
    if student is None or teacher is None:
        raise _no_mean(task)
    values = score_of(run, score)
    _, deferred = operating_points(values)
    order = np.argsort(-values, kind="stable")
    count = len(run)
    if not against_teacher:
        wrong = count - np.rint(count * task.mixtures(run.student, run.teacher).path(order, deferred))
        return _binomial_upper(wrong, count, confidence)
    half = (1 + confidence) / 2
    lost = _kept((teacher & ~student)[order])[deferred]
    won = _kept((student & ~teacher)[order])[deferred]
    return _binomial_upper(lost, count, half) - _binomial_lower(won, count, half)


def _certified(run: PairedRun, task: Task, curve: TradeoffCurve, target: Target) -> OperatingPoint:
    """Learn then Test (Angelopoulos et al., arXiv 2110.01052) by fixed-sequence testing.

    Thresholds are tested from "defer everything" upwards until the first that cannot be certified. The
    sequence is fixed before any data: between two scores nothing changes, so walking over the scores is
    walking over all real thresholds, and the family-wise error stays at 1 - confidence. The first threshold
    lies below every score seen, where a new image may still stay with the student, so it is tested as well.
    """
    assert target.confidence is not None
    drop = target.kind == "max_drop"
    bound = shortfall_bound(run, task, curve.score, target.confidence, drop)
    allowed = target.value if drop else 1 - target.value
    failed = np.flatnonzero(bound > allowed)
    index = int(failed[-1]) + 1 if len(failed) else 0
    if index < len(bound):
        return curve.point(index)
    best = f"a drop of {bound[-1]:.4g}" if drop else f"a quality of {1 - bound[-1]:.4g}"
    raise Infeasible(
        f"Expected {target.kind} {target.value:g} with confidence {target.confidence:g}, got at best {best} "
        f"certified on {len(run)} images, with everything deferred. More images certify more; the "
        "teacher alone needs no certificate.",
        dict(curve.point(len(bound) - 1).to_dict()),
    )


def split(run: PairedRun, fraction: float, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of two disjoint, seeded random parts of a run: calibration and report.

    The parts depend on the image ids and the seed alone, not on the order of the images.

    Raises:
        ConfigError: the fraction leaves a part empty.
    """
    check_seed(seed)
    count = calibration_size(len(run), fraction)
    by_id = np.argsort(np.array(run.image_ids))
    shuffled = by_id[np.random.default_rng(seed).permutation(len(run))]
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


def calibration_size(images: int, fraction: float) -> int:
    """How many of the images calibrate. Raises ConfigError where a part would be empty."""
    count = round(fraction * images) if 0 < fraction < 1 else 0
    if not 0 < count < images:
        raise ConfigError(
            f"Expected a calibration fraction that leaves images on both sides, got {fraction} of {images}."
        )
    return count


def check_reachable(target: Target, fraction: float, images: int, student_macs: float) -> None:
    """Refuse a target that no outcome of a run can meet, before it runs.

    Args:
        fraction: of the images, which calibrates.

    Raises:
        ConfigError: a part would be empty.
        Infeasible: multiply-adds below those of the student alone; or a confidence that so many images do not
            give when the pair makes no mistake at all.
    """
    count = calibration_size(images, fraction)
    if target.kind == "macs" and student_macs > target.value * (1 + 1e-12):
        raise Infeasible(
            f"Expected a target of at least {student_macs:.6g} macs, those of the student alone, got "
            f"{target.value:.6g}.",
            {"macs": student_macs, "deferral_rate": 0.0},
        )
    if target.confidence is None:
        return
    drop = target.kind == "max_drop"
    allowed = target.value if drop else 1 - target.value
    sure = (1 + target.confidence) / 2 if drop else target.confidence
    if float(_binomial_upper(np.zeros(1), count, sure)[0]) > allowed:
        enough = f"{int(np.ceil(np.log1p(-sure) / np.log1p(-allowed))):,}" if allowed > 0 else "no number of"
        raise Infeasible(
            f"Expected {enough} images to certify {target.kind} {target.value:g} with confidence "
            f"{target.confidence:g}, got {count:,}, {fraction:g} of {images:,}. Take more images, a larger "
            "`fraction`, or ask for less."
        )


def check_disjoint(calibration: PairedRun, report: PairedRun) -> None:
    """Refuse two runs that share an image. Raises InvalidInput with the count and one example."""
    shared = set(calibration.image_ids) & set(report.image_ids)
    if shared:
        raise InvalidInput(
            f"Expected disjoint images for calibration and report, got {len(shared)} in both, "
            f"`{min(shared)}` for one. Report on images that the choice never saw."
        )


def _kept(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[N] flags in deferral order -> [N+1] how many of them stay when the first 0..N are deferred."""
    return np.asarray(flags.sum() - np.concatenate([[0], np.cumsum(flags)]))


def _binomial_upper(successes: NDArray[Any], trials: int, confidence: float) -> FloatArray:
    bound = beta.ppf(confidence, successes + 1, trials - successes)
    return np.asarray(np.where(successes >= trials, 1.0, bound))


def _binomial_lower(successes: NDArray[Any], trials: int, confidence: float) -> FloatArray:
    bound = beta.ppf(1 - confidence, successes, trials - successes + 1)
    return np.asarray(np.where(successes <= 0, 0.0, bound))
