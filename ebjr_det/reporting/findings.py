"""What a report's numbers say, in sentences: the pair, its rivals, the price of quality, how energy fares."""

from ebjr_det.margin import Margin
from ebjr_det.reporting.choices import choice_findings
from ebjr_det.reporting.notation import Shown, percent
from ebjr_det.reporting.report import ENERGY, GAP_FRACTIONS, Report
from ebjr_det.reporting.rivals import hull_names, latency_name


def findings(report: Report) -> list[str]:
    """The sentences, the most important one first."""
    return [
        pair_finding(report),
        *_hull_findings(report),
        *_flops_finding(report),
        *_router_finding(report),
        *choice_findings(report),
        _gap_finding(report),
        _energy_finding(report),
    ]


def pair_finding(report: Report) -> str:
    """The pair at its chosen point: quality, multiply-adds and latency."""
    sides = report.sides()
    joint, teacher, student = sides["joint"], sides["teacher"], sides["student"]
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    text = (
        f"At a deferral rate of {percent(joint['deferral_rate'])} the pair's {name} is "
        f"{show.text(joint['quality'])} (student {show.text(student['quality'])}, "
        f"teacher {show.text(teacher['quality'])})"
    )
    if joint["macs"] and teacher["macs"]:
        text += f" at {joint['macs'] / teacher['macs']:.2f} x the teacher's multiply-adds"
    if joint["latency_ms"] and teacher["latency_ms"]:
        text += (
            f" and {joint['latency_ms'] / teacher['latency_ms']:.2f} x its latency "
            f"(measured {joint['latency_ms']:.2f} ms, expected {joint['expected_latency_ms']:.2f} ms)"
        )
    return text + "."


def _hull_findings(report: Report) -> list[str]:
    """The deciding number at equal multiply-adds and at equal latency, or why it is not known."""
    hull = f"the hull of single models ({hull_names(report.rivals)})"
    costs = {"macs": "multiply-adds", "latency_ms": latency_name(report.analysis)}
    found = [
        f"At equal {costs[kind]} that is {_margin_text(report, margin)} {hull}, which is what mixing them at "
        f"random reaches: {_verdict(*margin.interval)} chance."
        for kind, (margin, *_) in report.margins.items()
    ]
    unknown = [rival.name for rival in report.rivals if rival.latency_ms is None]
    if unknown and report.curve.cost.alone("latency_ms"):
        found.append(f"The margin at equal latency is not known, for want of that of {', '.join(unknown)}.")
    return found


def _margin_text(report: Report, margin: Margin) -> str:
    """How far, how sure, and to which side: the interval counts to the same side."""
    show, (low, high) = Shown.of(report.task.quality_name), margin.interval
    side, ends = ("above", (low, high)) if margin.value >= 0 else ("BELOW", (-high, -low))
    return f"{show.points(abs(margin.value))} {show.interval(ends)} {side}"


def _verdict(low: float, high: float) -> str:
    return "more than" if low > 0 or high < 0 else "within"


def _flops_finding(report: Report) -> list[str]:
    flops = [side.get("ebjr_flops") for side in report.sides().values()]
    if None in flops:
        return []
    student, teacher, joint = (f"{count:.8g}" for count in flops)
    return [f"FLOPs as EBJR's code counts them: student {student}, teacher {teacher}, pair {joint}."]


def _router_finding(report: Report) -> list[str]:
    use = report.analysis.router
    if use is None:
        return []
    text = f"The router was fitted on {use.fitted_on:,} other pictures (rescaling: {use.rescaling})"
    if use.left_out:
        text += f"; {len(use.left_out):,} of these here were among them and are left out"
    if use.drift is not None:
        shares = ", ".join(
            f"{100 * a:.0f} -> {100 * g:.1f} %" for a, g in zip(use.drift.asked, use.drift.got, strict=True)
        )
        moved = "has moved, more than chance" if use.drift.moved else "has not moved, within chance"
        text += f". Its score {moved}; deferral rates asked at the fit and got here: {shares}"
    return [text + "."]


def _gap_finding(report: Report) -> str:
    curve = report.curve
    if curve.gap_recovered(curve.student_quality) is None:
        return "The teacher is no better than the student here: there is no gap to recover."
    shares = [(f, curve.rate_for_gap(f)) for f in GAP_FRACTIONS]
    parts = ", ".join(f"{100 * f:g} % at {percent(rate)}" for f, rate in shares)
    return f"Share of the gap recovered by {curve.score}, at the least deferral rate: {parts}."


def _energy_finding(report: Report) -> str:
    if ENERGY not in report.curves or len(report.curves) < 2:
        return "Only one score was computed, so there is nothing to compare it with."
    areas = {name: curve.area() for name, curve in report.curves.items()}
    best = max(areas, key=lambda name: areas[name])
    if best == ENERGY:
        return f"{ENERGY} has the largest area of all scores, {areas[best]:.4f}."
    low, high = report.intervals.area_difference_picked[best]
    return (
        f"{ENERGY} (area {areas[ENERGY]:.4f}) is not the best score: {best} has {areas[best]:.4f}, "
        f"a difference of {areas[best] - areas[ENERGY]:.4f} [{low:.4f}, {high:.4f}], "
        f"{_verdict(low, high)} chance, which allows for its being picked among {len(areas) - 1}."
    )
