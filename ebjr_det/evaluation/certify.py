"""The point of a curve that meets a target, as it stands or by exact binomial bounds with a confidence."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, betabinom

from ebjr_det.config.target import BUDGETS, Target
from ebjr_det.core.cost import Budget
from ebjr_det.core.errors import ConfigError, Infeasible
from ebjr_det.core.ranking import Ranking
from ebjr_det.core.split import calibration_size
from ebjr_det.core.tradeoff import OperatingPoint, TradeoffCurve, score_of
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.units import Unit, cost_text


def choose(run: PairedRun, task: Task, curve: TradeoffCurve, target: Target) -> OperatingPoint:
    """The operating point of `curve` (of `run`, the calibration images) that meets the target.

    A budget gives the highest quality within it, for the deferral rate simply the largest rate allowed;
    a floor gives the cheapest point above it.

    With a confidence by Learn then Test (Angelopoulos et al., arXiv 2110.01052), fixed-sequence testing:
    thresholds are tested from "defer everything" upwards until the first that cannot be certified. The
    sequence is fixed before any data: between two scores nothing changes, so walking over the scores is
    walking over all real thresholds, and the family-wise error stays at 1 - confidence. The first threshold
    lies below every score seen, where a new image may still stay with the student, so it is tested as well.

    Raises:
        Infeasible: no point meets it; carries the nearest.
        ConfigError: a cost that this run does not know, a confidence for a metric without right and wrong.
    """
    drop = target.kind == "max_drop"
    if target.kind == "deferral_rate":
        return curve.at_rate(target.value)
    if target.kind in BUDGETS:
        return best_under(curve, target.kind, target.value)
    if target.confidence is None:
        return cheapest_above(curve, curve.teacher_quality - target.value if drop else target.value)
    bound = shortfall_bound(run, task, curve.score, target.confidence, drop)
    failed = np.flatnonzero(bound > target.allowed_shortfall)
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


def best_under(curve: TradeoffCurve, kind: Budget, budget: float) -> OperatingPoint:
    """Highest quality at a cost of at most `budget`; among equals the cheapest.

    Raises:
        ConfigError: a kind of cost that is unknown or not known of this pair.
        Infeasible: even the student alone costs more; carries the cheapest point.
    """
    costs = curve.costs(kind)
    allowed = costs <= budget * (1 + 1e-12)
    if not allowed.any():
        unit = Unit.of(curve.cost.teacher_macs)
        limit, least = (cost_text(kind, cost, unit) for cost in (budget, float(costs[0])))
        verb, of = ("defers", "of the images") if kind == "deferral_rate" else ("costs", "an image")
        raise Infeasible(
            f"Expected a point that {verb} at most {limit} {of}, got {least} for the student alone, "
            "the cheapest there is.",
            dict(curve.point(0).to_dict()),
        )
    return curve.point(int(np.argmax(np.where(allowed, curve.quality, -np.inf))))


def cheapest_above(curve: TradeoffCurve, floor: float) -> OperatingPoint:
    """Smallest deferral rate, so the least cost, with a quality of at least `floor`.

    Raises:
        Infeasible: no point reaches it; carries the best point.
    """
    reached = curve.quality >= floor - 1e-12
    if not reached.any():
        nearest = curve.point(int(np.argmax(curve.quality)))
        raise Infeasible(
            f"Expected a quality of at least {floor:.6g}, got {nearest.quality:.6g} at best, "
            f"at a deferral rate of {100 * nearest.deferral_rate:.2f} %.",
            dict(nearest.to_dict()),
        )
    return curve.point(int(np.argmax(reached)))


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
        ConfigError: the task's quality is no mean of right and wrong, or no label judged the run.
    """
    if run.estimated:
        raise uncertified(confidence)
    student, teacher = task.right(run.student), task.right(run.teacher)
    if student is None or teacher is None:
        raise _no_mean(task)
    ranking, count = Ranking(task.mixtures(run.student, run.teacher), score_of(run, score)), len(run)
    if not against_teacher:
        return _upper(count - np.rint(count * ranking.line()[1]), count, confidence)

    def staying(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        """[P] how many of the flagged images are not deferred."""
        first = np.concatenate([[0], np.cumsum(flags[ranking.order])])
        return np.asarray((first[-1] - first)[ranking.deferred])

    half = (1 + confidence) / 2
    lost, won = staying(teacher & ~student), staying(student & ~teacher)
    return _upper(lost, count, half) - _lower(won, count, half)


def share_interval(above: int, count: int, images: int) -> tuple[float, float]:
    """What share of further images a threshold defers that deferred `above` of `count`, in 95 of 100 cases.

    Exact for any continuous score, were all images drawn alike: the probability of a score above a threshold
    that lies between two neighbouring scores is between Beta(k, n - k + 1) and Beta(k + 1, n - k), k of n
    being above, and the number of such images then binomial (Fligner and Wolfe 1976, The American
    Statistician 30, 78-85). Wider than needed by about one image of the calibration.

    >>> [round(end, 3) for end in share_interval(30, 100, 1000)]
    [0.208, 0.404]
    """
    tail = (1 - 0.95) / 2
    low = betabinom.ppf(tail, images, above, count - above + 1) / images if above else 0.0
    high = betabinom.isf(tail, images, above + 1, count - above) / images if above < count else 1.0
    return float(low), float(high)


def check_target(target: Target, task: Task) -> None:
    """Raises ConfigError for a confidence where the task's quality is no mean of right and wrong."""
    if target.confidence is not None and not task.mean:
        raise _no_mean(task)


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
    allowed = target.allowed_shortfall
    sure = (1 + target.confidence) / 2 if target.kind == "max_drop" else target.confidence
    if float(_upper(np.zeros(1), count, sure)[0]) > allowed:
        enough = f"{int(np.ceil(np.log1p(-sure) / np.log1p(-allowed))):,}" if allowed > 0 else "no number of"
        raise Infeasible(
            f"Expected {enough} images to certify {target.kind} {target.value:g} with confidence "
            f"{target.confidence:g}, got {count:,}, {fraction:g} of {images:,}. Take more images, a larger "
            "`fraction`, or ask for less."
        )


def uncertified(confidence: float) -> ConfigError:
    """The error of a certificate that would rest on estimated answers."""
    return ConfigError(
        f"Expected labels for a target with `confidence`, got {confidence:g} without: what was estimated "
        "certifies nothing. Leave the confidence out."
    )


def _no_mean(task: Task) -> ConfigError:
    return ConfigError(
        f"Expected a quality that is a mean over images for `confidence`, got {task.quality_name}."
    )


def _upper(successes: NDArray[np.number], trials: int, confidence: float) -> FloatArray:
    """Clopper-Pearson upper bound of each binomial probability."""
    bound = beta.ppf(confidence, successes + 1, trials - successes)
    return np.asarray(np.where(successes >= trials, 1.0, bound))


def _lower(successes: NDArray[np.number], trials: int, confidence: float) -> FloatArray:
    """Clopper-Pearson lower bound of each binomial probability."""
    bound = beta.ppf(1 - confidence, successes, trials - successes + 1)
    return np.asarray(np.where(successes <= 0, 0.0, bound))
