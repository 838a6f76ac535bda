"""Live decisions with a front against those of the records: eval/front/decisions.py RUN FRONT PLACEMENT [N].

Of the first N pictures of the run that the fit has not seen, at the thresholds of `both` in the middle budget
of multiply-adds.
"""

import json
import sys
from pathlib import Path

import numpy as np

import ebjr_det
from ebjr_det.api.fit_front import open_run
from ebjr_det.api.placement import unseen_by
from ebjr_det.core.tradeoff import score_of
from ebjr_det.inference.router_file import load_front_file
from ebjr_det.tasks.front import FrontRouter


def main(run_dir: Path, front: Path, placement: Path, count: int = 500) -> None:
    """Print how many decisions agree, as one JSON object."""
    summary = json.loads((placement / "summary.json").read_text(encoding="utf-8"))
    rows = [row for row in summary["budgets"]["macs"] if len(row["placements"]) == 3]
    both = rows[len(rows) // 2]["placements"][-1]
    limits = both["front_threshold"], both["threshold"]
    head, tail = (np.inf if limit is None else limit for limit in limits)
    opened, file = open_run(run_dir), load_front_file(summary["task"], front)
    unseen = unseen_by(opened, file, front)
    images = [opened.data.load(opened.indices[index]) for index in unseen[:count]]
    router = FrontRouter.of_file(file, front)
    sent = router.scores([router.preprocess(image) for image in images]) > head
    behind = score_of(opened.run, summary["score"])[unseen[:count]] > tail
    changes = [f"router.front={front}", f"router.front_threshold={head}"]
    pair = ebjr_det.load(run_dir, threshold=tail, changes=changes)
    answers = [pair(images[at : at + 50]).decision for at in range(0, len(images), 50)]
    live_front = np.concatenate([decision.in_front for decision in answers])
    live = np.concatenate([decision.defer for decision in answers])
    counts = {"sent_by_front": sent.sum(), "deferred": (sent | behind).sum()}
    agree = {"front_agrees": (live_front == sent).sum(), "pair_agrees": (live == (sent | behind)).sum()}
    print(json.dumps({"pictures": len(images)} | {key: int(n) for key, n in (counts | agree).items()}))


if __name__ == "__main__":
    run_dir, front, placement, *count = sys.argv[1:]
    main(Path(run_dir), Path(front), Path(placement), *map(int, count))
