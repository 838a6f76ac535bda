"""Which of a report's numbers were chosen on the reported images, and so what they may claim."""

from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.notation import percent

ELSEWHERE = "`ebjr-det calibrate` chooses on one part of the images and reports on the other"


def choice_findings(report: Report) -> list[str]:
    """A sentence on the threshold, and one where the score was picked by its quality on these images."""
    analysis = report.analysis
    by_threshold = {
        "": [],
        "given": [
            "The threshold was given. If it was picked by its quality on these images, that quality "
            f"flatters: {ELSEWHERE}."
        ],
        "rate": [
            f"The threshold is the one that defers {percent(report.chosen.deferral_rate)} of these very "
            f"images; no label chose it. On other images it defers another share: {ELSEWHERE}."
        ],
        "target": ["The threshold was chosen on other images than these."],
    }[analysis.threshold_from]
    if not analysis.picked_among:
        return by_threshold
    return [
        *by_threshold,
        f"{report.curve.score} was picked as the best of {analysis.picked_among} scores on these images, so "
        "its numbers here flatter; those of a choice made beforehand need other images: replay --router.",
    ]
