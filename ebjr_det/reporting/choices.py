"""How router and threshold of a report were chosen, in sentences, and what such a choice may claim."""

from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.notation import Shown, milliseconds, number, percent, plural, share

ESTIMATED_LEAD = "Estimated without labels. "
SHARE_OFF, GAP_OFF = 0.11, 3
"""How far estimates were off, in `eval/routing`: the share of the gap at a rate; the gap, by this factor."""
ELSEWHERE = "`ebjr-det calibrate` chooses on one part of the images and reports on the other"


def without_labels(report: Report) -> str:
    """How a verdict begins that rests on no label."""
    return ESTIMATED_LEAD if report.run.estimated else ""


def estimate_finding(report: Report) -> list[str]:
    """What numbers are worth that no label judged."""
    if not report.run.estimated:
        return []
    return [
        "No labels were given: what the models answer stands in for them, and every quality is an estimate. "
        f"On pairs that have labels too the share of the gap recovered at a rate was off by at most "
        f"{SHARE_OFF:g}, and the gap itself by a factor of up to {GAP_OFF}: trust who is "
        "sent on more than how much that gains."
    ]


def choice_findings(report: Report) -> list[str]:
    """What a threshold and a picked score may claim that were chosen on the reported images."""
    sentences = {
        "given": "The threshold was given. If it was picked by its quality on these images, that quality "
        f"flatters: {ELSEWHERE}.",
        "rate": f"The threshold is the one that defers {percent(report.chosen.deferral_rate)} of these very "
        f"images; no label chose it. On other images it defers another share: {ELSEWHERE}.",
        "target": f"The threshold was chosen on other images than these{_share_words(report)}.",
        "picked": f"{report.curve.score} was picked among {report.analysis.picked_among} scores on "
        "these images, so its numbers here flatter; those of a choice made beforehand need other images: "
        "replay --router.",
    }
    keys = [report.analysis.threshold_from, "picked" * bool(report.analysis.picked_among)]
    return [sentences[key] for key in keys if key]


def _share_words(report: Report) -> str:
    """The share that was asked for beside the one that came, and what chance alone would give."""
    calibration, rate = report.analysis.calibration, report.chosen.deferral_rate
    expected = None if calibration is None else calibration.share_interval(len(report.run))
    if calibration is None or expected is None:
        return ""
    low, high = expected
    images, target = plural(calibration.images, "image"), percent(calibration.target.value)
    share_there = percent(calibration.point.deferral_rate)
    text = f", where it defers {share_there} of {images} ({target} asked for); here {percent(rate)}, and"
    text += f" 95 of 100 such samples lie between {share(low)} and {percent(high)}"
    if not low <= rate <= high:
        text += ": UNLIKE CHANCE. These images are of another kind, or the router was fitted on too few"
    return text


def selection_finding(report: Report) -> list[str]:
    """Which router was chosen, why, and what it costs; what EBJR's own score would have got."""
    choice, name, show = (
        report.analysis.selection,
        report.task.quality_name,
        Shown.of(report.task.quality_name),
    )
    if choice is None:
        return []
    rescaled = "" if choice.rescaling == "none" else f", scores rescaled ({choice.rescaling}),"
    pictures = f"{plural(choice.candidates, 'score')} on {plural(choice.images, 'other picture')}"
    text = f"{choice.score}{rescaled} was chosen among {pictures}: "
    if choice.behind > 0:
        best = f"{choice.best}, {number(choice.behind, digits=4)} more area"
        error = number(choice.error, digits=4)
        text += f"the simplest within one standard error, {error}, of the best there ({best})."
    else:
        text += "the best there, and none that is simpler lies within one standard error."
    if report.published_quality is not None:
        lead = report.chosen.quality - report.published_quality
        words = f"{show.points(abs(lead))} {'less' if lead >= 0 else 'more'}"
        quality = show.text(report.published_quality)
        text += f" At this share EBJR's own score gets an {name} of {quality}, {words}."
    if choice.decision_ms is not None:
        text += f" A decision takes {milliseconds(choice.decision_ms)} ms and no multiply-adds."
    return [text]


def router_finding(report: Report) -> list[str]:
    """On how many pictures a router was fitted, and how far its score has moved since."""
    use, choice = report.analysis.router, report.analysis.selection
    if use is None:
        return []
    text = f"The router was fitted on {plural(use.fitted_on, 'other picture')} (rescaling: {use.rescaling})"
    if use.left_out and choice is None:
        text += f"; {len(use.left_out):,} of these here were among them and are left out"
    if use.drift is not None:
        drift = use.drift
        pairs = zip(drift.asked, drift.got, strict=True)
        shares = ", ".join(f"{share(fitted, 0)} -> {share(got)} %" for fitted, got in pairs)
        moved = "has" if drift.moved else "has not visibly"
        text += (
            f". Its score {moved} moved: its values there and here differ by {drift.distance:.3f} "
            f"(Kolmogorov-Smirnov), and 95 of 100 samples that did not move would stay under "
            f"{drift.expected:.3f}. Deferral rates asked at the fit and got here: {shares}"
        )
    return [text + "."]
