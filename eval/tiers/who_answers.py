"""Which tier answers live, and does the run say so? `python eval/tiers/who_answers.py RUN [IMAGES]`.

The folder is loaded as `predict` loads it and asked about the first pictures of its own data, by default 500.
Prints how many of them the same tier answers, and how many each tier.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

import ebjr_det
from ebjr_det.api.tiers import load_tiered_folder
from ebjr_det.core.joint import JointModel
from ebjr_det.core.tiers import answering
from ebjr_det.tasks import load_task
from ebjr_det.tasks.settings import load_config

BATCH = 20


def answered_by(joint: JointModel, pictures: list[Any], leaps: bool) -> list[int]:
    """By picture, the place of the tier that answers it live."""
    decision, tiers = joint(pictures).decision, [0] * len(pictures)
    for index in decision.defer.nonzero()[0]:
        inner: Any = joint.teacher
        if not hasattr(inner, "joint"):
            tiers[index] = 1
        elif leaps:
            score, tiers[index] = decision.scores[index], 1
            while hasattr(inner, "joint") and score > inner.joint.threshold:
                inner, tiers[index] = inner.joint.teacher, tiers[index] + 1
        else:
            tiers[index] = 1 + answered_by(inner.joint, [pictures[index]], leaps)[0]
    return tiers


def main(folder: Path, images: int = 500) -> None:
    """Ask and count."""
    run, analysis = load_tiered_folder(folder)
    config, chosen = load_config(folder / "config.yaml"), analysis.chosen
    assert chosen is not None, "a run of `evaluate`"
    columns = [run.scores[tier][score] for tier, score in zip(chosen.senders, chosen.scores, strict=True)]
    expected = answering(np.stack(columns)[:, :images], chosen.thresholds)
    data, pair = load_task(config.task).data.build_data(**dict(config.data)), ebjr_det.load(folder)
    tiers = list[int]()
    for start in range(0, len(expected), BATCH):
        pictures = [data.load(index) for index in range(start, min(start + BATCH, len(expected)))]
        tiers += answered_by(pair, pictures, chosen.topology == "leap")
    counts = dict(zip(chosen.tiers, np.bincount(expected, minlength=len(chosen.tiers)).tolist(), strict=True))
    print(f"{np.sum(expected == tiers)} of {len(expected)} alike, {chosen.topology}: {counts}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
