"""The laws `share` and `queue` at a server: what they hold when pictures change, or too many come."""

import urllib.request

import numpy as np
from PIL import Image
from senders import closed, encoded, open_loop, scenes, serving

import ebjr_det
from ebjr_det.core.types import FloatArray
from ebjr_det.inference.live import LiveModel
from ebjr_det.io.pictures import as_picture
from ebjr_det.tasks.classification.data import build_data

OBJECTIVE = 0.2
"""Seconds that a picture may wait for the teacher, of `queue`."""


def scores_of(pair: LiveModel, pictures: list[Image.Image]) -> FloatArray:
    """Deferral scores, a picture at a time."""
    student = pair.student
    return np.concatenate([pair.judge([student.preprocess(picture)])[1].scores for picture in pictures])


def share(folder: str) -> dict[str, object]:
    """The law `share` after noise that moves the scores' mean by one of their standard deviations.

    Shares are of the first 500 pictures after the shift and the next 1,000; `fixed` has no law.
    """
    data, generator = build_data("digits", split="test"), np.random.default_rng(0)
    arrays = [np.asarray(as_picture(data.load(index)), dtype=np.float64) for index in range(500)]
    pair = ebjr_det.load(folder, rate=0.3)
    plain = scores_of(pair, [Image.fromarray(array.astype(np.uint8)) for array in arrays])

    def noisy(level: float) -> list[Image.Image]:
        moved = [np.clip(array + level * generator.normal(size=array.shape), 0, 255) for array in arrays]
        return [Image.fromarray(array.astype(np.uint8)) for array in moved]

    def shift(level: float) -> float:
        return float((scores_of(pair, noisy(level)).mean() - plain.mean()) / plain.std())

    level = min(np.arange(5.0, 125.0, 5.0), key=lambda level: abs(shift(level) - 1))
    before = [encoded(Image.fromarray(array.astype(np.uint8))) for array in arrays]
    after = [encoded(picture) for picture in noisy(level)]
    shares = {}
    with serving(folder, "--policy", "share", "--rate", "0.3") as (_, url):
        shares["before"] = closed(url, before, 1500, 1).share("answered_by", "teacher")
        shares["first 500 after"] = closed(url, after, 500, 1).share("answered_by", "teacher")
        shares["next 1000 after"] = closed(url, after, 1000, 1).share("answered_by", "teacher")
    with serving(folder, "--rate", "0.3") as (_, url):
        shares["fixed"] = closed(url, after, 500, 1).share("answered_by", "teacher")
    rounded = {name: round(value, 3) for name, value in shares.items()}
    return {"target": 0.3, "shift_in_deviations": round(shift(level), 2), "noise": float(level), **rounded}


def waits(url: str) -> tuple[float, float]:
    """How many pictures have waited for the teacher, and how many of them no longer than the objective."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#")
    name = "ebjr_stage_seconds"
    return float(lines.get(f'{name}_count{{stage="teacher_wait"}}', 0)), float(
        lines.get(f'{name}_bucket{{le="{OBJECTIVE}",stage="teacher_wait"}}', 0)
    )


def queue(folder: str) -> dict[str, object]:
    """The law `queue`: the share of waits over its objective while three times as many pictures come.

    The share sent is chosen so that what comes usually keeps the teacher seven tenths busy.
    """
    contents = scenes(40)
    with serving(folder) as (_, url):
        student, teacher = (
            float(np.median(closed(url, contents, 60, 1, force=side).seconds))
            for side in ("student", "teacher")
        )
    rate = 0.25 / student  # of which three times is three quarters of what the student alone can do
    share = min(0.7 / (rate * teacher), 0.9)
    options = ("--policy", "queue", "--slo-ms", str(1000 * OBJECTIVE), "--rate", f"{share:.3f}")
    result: dict[str, object] = {
        "student_ms": round(1000 * student, 1),
        "teacher_ms": round(1000 * teacher, 1),
    }
    with serving(folder, *options) as (_, url):
        for name, times in (("usual", 1), ("burst", 3)):
            before = waits(url)
            replies = open_loop(url, contents, times * rate, 15)
            count, within = (after - earlier for after, earlier in zip(waits(url), before, strict=True))
            result[name] = {
                "per_second": round(times * rate, 1),
                "by_teacher": round(replies.share("answered_by", "teacher"), 3),
                "over_objective": round(1 - within / max(count, 1), 4),
                "refused": replies.refused,
            }
    return result | {"share": round(share, 3)}
