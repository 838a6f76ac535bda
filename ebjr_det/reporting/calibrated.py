"""A calibrated threshold in words and as a table: the target, and both sets of images side by side."""

from ebjr_det.config.target import BUDGETS, Target
from ebjr_det.evaluation.calibrated import Calibrated
from ebjr_det.evaluation.units import Unit, cost_text
from ebjr_det.reporting.choices import ESTIMATED_LEAD
from ebjr_det.reporting.notation import Shown, milliseconds, percent, plural, share
from ebjr_det.reporting.table import Table


def verdict(answer: Calibrated) -> str:
    """One sentence: whether the target is met on images that the choice did not see."""
    stated = target_text(answer.target, answer.quality_name, unit_of(answer))
    rate = f"; {percent(answer.reported.deferral_rate)} deferred" * (answer.target.kind != "deferral_rate")
    images = plural(answer.reported_curve.images, "image")
    lead = ESTIMATED_LEAD * answer.estimated
    return (
        f"{lead}The target is {'met' if answer.met else 'MISSED'} on {images} that the choice "
        f"did not see: {_reached(answer)} (asked: {stated}){rate}."
    )


def target_text(target: Target, quality_name: str, unit: Unit) -> str:
    """A target with its unit."""
    show = Shown.of(quality_name)
    if target.kind in BUDGETS:
        text = f"at most {_spent(target.kind, target.value, unit)}"
    elif target.kind == "min_quality":
        text = f"{quality_name} of at least {show.text(target.value)}"
    else:
        text = f"{quality_name} at most {show.points(target.value)} below the teacher's"
    return f"{text}, with {100 * target.confidence:g} % probability" if target.confidence else text


def _spent(kind: str, cost: float, unit: Unit) -> str:
    return f"{cost_text(kind, cost, unit)} {'deferred' if kind == 'deferral_rate' else 'an image'}"


def _reached(answer: Calibrated) -> str:
    """What the reported images show of the thing that the target limits."""
    kind, show = answer.target.kind, Shown.of(answer.quality_name)
    if kind in BUDGETS:
        return _spent(kind, getattr(answer.reported, kind), unit_of(answer))
    quality, teacher = answer.reported.quality, answer.reported_curve.teacher_quality
    text = f"{answer.quality_name} {show.text(quality)}"
    if kind == "min_quality":
        return text
    return (
        f"{text}, {show.points(teacher - quality)} {'below' if quality <= teacher else 'above'} the teacher's"
    )


def unit_of(answer: Calibrated) -> Unit:
    """The unit in which the answer's multiply-adds read well."""
    return Unit.of(answer.curve.cost.teacher_macs)


def table(answer: Calibrated) -> Table:
    """The images that the threshold was chosen on, and those that it is reported on."""
    show, unit = Shown.of(answer.quality_name), unit_of(answer)
    rows = []
    for name, curve, point in (
        ("chosen on", answer.curve, answer.chosen),
        ("reported on", answer.reported_curve, answer.reported),
    ):
        qualities = map(show.value, (curve.student_quality, point.quality, curve.teacher_quality))
        costs = unit.value(point.macs), milliseconds(point.latency_ms)
        rows.append([name, f"{curve.images:,}", share(point.deferral_rate, 2), *qualities, *costs])
    names = map(show.heading, ("student", "pair", "teacher"))
    columns = ["", "images", "deferred %", *names, unit.name, "ms"]
    caption = f"student, pair, teacher: {answer.quality_name}; MACs and ms: student + deferral rate x teacher"
    if answer.live is not None:
        rate, measured, expected = answer.live
        caption += (
            f"; with {percent(rate)} deferred the pair itself was measured at {milliseconds(measured)} ms, "
            f"where this sum is {milliseconds(expected)}"
        )
    return Table("", columns, rows, caption)


def threshold_line(answer: Calibrated) -> str:
    """The threshold to the last digit, as it is given to other commands."""
    ends = {0.0: "inf (defer none)", 1.0: "-inf (defer all)"}
    threshold = answer.chosen.threshold
    text = ends[answer.chosen.deferral_rate] if abs(threshold) == float("inf") else str(threshold)
    return f"Threshold of {answer.curve.score}: {text} (what scores higher goes to the teacher)."
