"""Which images go to the teacher, in sentences: what its answers change there, and for which classes."""

import numpy as np

from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.report import Report
from ebjr_det.reporting.notation import Shown, plural

MOST_CLASSES, MOST_IMAGES = 5, 8


def sent_sentences(report: Report) -> list[str]:
    """What the teacher's answers change, which classes gain most, and which images are doubted most."""
    defer, name = report.decision.defer, report.task.quality_name
    sentences = [
        f"{words.format(plural(int(side.sum()), 'image'))} raise the {name} on {better:,}, change nothing on "
        f"{equal:,} and lower it on {worse:,}."
        for words, side in (
            ("The {} that go to the teacher: its answers", defer),
            ("The {} that stay with the student: the teacher's answers would", ~defer),
        )
        if side.any()
        for better, equal, worse in [_changes(report.reward[side])]
    ]
    doubt = np.argsort(-report.decision.scores, kind="stable")[:MOST_IMAGES]
    names = ", ".join(report.run.image_ids[image] for image in doubt)
    return [*sentences, *_class_sentence(report), f"Doubted most: {names}; routes.csv has all."]


def _changes(reward: FloatArray) -> tuple[int, int, int]:
    """On how many images the teacher's answer is better, as good and worse."""
    return int((reward > 0).sum()), int((reward == 0).sum()), int((reward < 0).sum())


def _class_sentence(report: Report) -> list[str]:
    """The classes that gain most by the pair, where classes have names and numbers."""
    if report.by_class is None or not report.analysis.class_names:
        return []
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    gains = []
    for row in report.class_rows():
        joint, student = row["joint"][name], row["student"][name]
        if joint is not None and student is not None and joint > student:
            gains.append((joint - student, str(row["class"])))
    best = sorted(gains, key=lambda gain: -gain[0])[:MOST_CLASSES]
    texts = ", ".join(f"{label} ({show.difference(gain)})" for gain, label in best)
    return [f"Classes that gain most by it, in {name}: {texts}."] if best else []
