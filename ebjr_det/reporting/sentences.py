"""What a report's numbers say, in sentences: does the pair pay, at which cost, by which score."""

from collections.abc import Sequence

from ebjr_det.core.cost import Cost
from ebjr_det.core.scores import ENERGY
from ebjr_det.evaluation.report import GAP_FRACTIONS, Report, rate_for_gap
from ebjr_det.evaluation.single_models import SingleModel
from ebjr_det.reporting.answer import noise_finding, verdict
from ebjr_det.reporting.choices import choice_findings, estimate_finding, router_finding, selection_finding
from ebjr_det.reporting.notation import Shown, interval_text, milliseconds, number, percent, plural


def findings(report: Report) -> list[str]:
    """The sentences, the most important one first."""
    return [verdict(report), *main_findings(report), *further_findings(report)]


def main_findings(report: Report) -> list[str]:
    """What stands behind the verdict: the pair against mixed single models, how it was chosen, the scores."""
    return [
        *estimate_finding(report),
        *margin_findings(report),
        *selection_finding(report),
        *noise_finding(report),
        *router_finding(report),
        *choice_findings(report),
        _score_finding(report),
    ]


def further_findings(report: Report) -> list[str]:
    """What only a long report tells."""
    return [_pair_finding(report), _gap_finding(report), *_flops_finding(report)]


def _pair_finding(report: Report) -> str:
    """The pair at its chosen point: quality, multiply-adds and latency."""
    student, teacher, joint = report.sides().values()
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    text = (
        f"At a deferral rate of {percent(joint['deferral_rate'])} the pair's {name} is "
        f"{show.text(joint['quality'])} (student {show.text(student['quality'])}, "
        f"teacher {show.text(teacher['quality'])})"
    )
    if joint["latency_ms"] is not None and joint["expected_latency_ms"] is not None:
        text += (
            f"; its latency was measured as {milliseconds(joint['latency_ms'])} ms, expected were "
            f"{milliseconds(joint['expected_latency_ms'])} ms"
        )
    return text + "."


def margin_findings(report: Report) -> list[str]:
    """The deciding number at equal multiply-adds and at equal latency, or why it is not known."""
    latency = "expected latency" if report.analysis.live is None else "measured latency"
    costs: dict[Cost, str] = {"macs": "multiply-adds", "latency_ms": latency}
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    sentences = [
        f"At equal {costs[kind]} the pair's {name} is {show.text(margin.quality)}, that of single models "
        f"({hull_names(report.rivals)}) mixed at random {show.text(margin.quality - margin.value)}: "
        f"{show.points(margin.value)} {'more' if margin.value >= 0 else 'less'}. "
        f"{interval_words(report, show.interval(margin.interval))} {zero_words(*margin.interval)}."
        for kind, (margin, *_) in report.margins.items()
    ]
    if sentences:
        sentences[0] += " (This is the margin over the hull of single models.)"
    unknown = [rival.name for rival in report.rivals if rival.latency_ms is None]
    if unknown and report.curve.cost.alone("latency_ms"):
        sentences.append(
            f"The margin at equal latency is not known, for want of that of {', '.join(unknown)}."
        )
    return sentences


def interval_words(report: Report, interval: str) -> str:
    """The interval of a difference and where it is from, at the start of a sentence."""
    level, resamples = 100 * report.intervals.confidence, plural(report.analysis.replicates, "resample")
    return f"The {level:g} % interval of the difference, {interval} from {resamples} of the images,"


def zero_words(low: float, high: float) -> str:
    """Whether an interval of a difference includes none.

    >>> zero_words(0.1, 0.2), zero_words(-0.1, 0.2)
    ('excludes 0', 'includes 0: it may be chance')
    """
    return "excludes 0" if low > 0 or high < 0 else "includes 0: it may be chance"


def hull_names(rivals: Sequence[SingleModel]) -> str:
    """The single models of the hull, those that were published and not measured at the end.

    >>> hull_names([SingleModel("D1", 0.4, 1.0), SingleModel("D2", 0.43, 2.0)])
    'student, teacher; D1, D2 published'
    """
    measured = ", ".join(["student", "teacher", *(model.name for model in rivals if not model.published)])
    published = ", ".join(model.name for model in rivals if model.published)
    return f"{measured}; {published} published" if published else measured


def _flops_finding(report: Report) -> list[str]:
    flops = [side.get("ebjr_flops") for side in report.sides().values()]
    if None in flops:
        return []
    student, teacher, joint = (f"{count:.8g}" for count in flops)
    return [f"FLOPs as EBJR's code counts them: student {student}, teacher {teacher}, pair {joint}."]


def _gap_finding(report: Report) -> str:
    curve = report.curve
    if curve.gap_recovered(curve.student_quality) is None:
        return "The teacher is no better than the student here: there is no gap to recover."
    parts = ", ".join(f"{100 * f:g} % at {percent(rate_for_gap(curve, f))}" for f in GAP_FRACTIONS)
    return f"Share of the gap recovered by {curve.score}, at the least deferral rate: {parts}."


def _score_finding(report: Report) -> str:
    """The best score against energy, with the interval of one that was picked after looking at all."""
    if ENERGY not in report.curves or len(report.curves) < 2:
        return "Only one score was computed, so there is nothing to compare it with."
    areas, name = {name: curve.area() for name, curve in report.curves.items()}, report.task.quality_name
    best = max(areas, key=lambda name: areas[name])
    of = f"of {len(areas)} scores"
    if areas[best] <= areas[ENERGY]:
        area = f"area ({name} over all deferral rates), {areas[ENERGY]:.4f}"
        return f"{ENERGY} has the largest {area}, {of}."
    return (
        f"The best {of} here is {best}: area ({name} over all deferral rates) {areas[best]:.4f}, {ENERGY} "
        f"{areas[ENERGY]:.4f}, that is {number(areas[best] - areas[ENERGY], digits=4)} more. "
        f"{difference_words(report, best, len(areas))}"
    )


def difference_words(report: Report, score: str, picked_among: int) -> str:
    """How sure a score's lead over energy is, be it picked on these images or named beforehand (0)."""
    differences = (
        report.intervals.area_difference_picked if picked_among else report.intervals.area_difference
    )
    ends = differences[score]
    widened = (
        f"; it is widened for a score that was picked as the best of {picked_among} on these very images"
    )
    text = f"{interval_words(report, interval_text(ends))} {zero_words(*ends)}"
    return f"{text}{widened if picked_among else ''}."
