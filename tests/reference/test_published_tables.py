"""The published CIFAR figures, to the digit, from the published weights on the full test sets."""

from pathlib import Path

import pytest

from ebjr_det.core.cost import CostModel
from ebjr_det.core.router import decide
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.tradeoff import mixture, sweep
from ebjr_det.core.types import Output
from ebjr_det.inference.pair import Pair
from ebjr_det.io.records import PartStore
from ebjr_det.tasks.settings import load_config

ROOT = Path(__file__).resolve().parents[2]
# name: threshold, kept in float32 as released and in float64, then in % as published
PUBLISHED = {
    "cifar10": (2.46, 7203, 7202, 91.80, 94.76, 94.77, 99.80, 136533582.99879998),
    "cifar100": (4.6195, 5673, 5673, 69.28, 74.70, 74.79, 93.69, 156880506.2456),
}
# facts of the CIFAR-10 pair's curves, measured by others on the same weights
AREAS = {"probability_logsumexp": 0.9452, "max_softmax": 0.9452, "margin": 0.9453, "free_energy": 0.9425}


def scores(output: Output):
    logits = output.logits
    found = {name: deferral_scores(logits, name) for name in SCORES}
    return found | {"released": deferral_scores(logits, "probability_logsumexp", dtype="float32")}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_table_to_the_digit(name: str, cifar_root: Path, published_weights, tmp_path: Path):
    threshold, kept32, kept64, student, teacher, joint, top5, flops = PUBLISHED[name]
    pair = Pair.build(load_config(ROOT / "configs" / f"{name}_densenet.yaml", [f"data.root={cifar_root}"]))
    run = pair.run(scores, PartStore(tmp_path))
    assert len(run) == 10_000
    assert 100 * pair.task.metrics(run.student)["accuracy"] == pytest.approx(student, abs=1e-9)
    assert 100 * pair.task.metrics(run.teacher)["accuracy"] == pytest.approx(teacher, abs=1e-9)
    float64 = decide(run.scores["probability_logsumexp"], -threshold)
    assert int((~float64.defer).sum()) == kept64
    released = decide(run.scores["released"], -threshold)
    assert int((~released.defer).sum()) == kept32
    together = pair.task.metrics(mixture(run, pair.task, released.defer))
    assert 100 * together["accuracy"] == pytest.approx(joint, abs=1e-9)
    assert 100 * together["top5_accuracy"] == pytest.approx(top5, abs=1e-9)
    facts = [model.facts(pair.data.load(0))["ebjr_flops"] for model in (pair.student, pair.teacher)]
    assert CostModel(*facts).macs(released.deferral_rate) == pytest.approx(flops, rel=1e-12)
    if name == "cifar10":
        for score, area in AREAS.items():
            assert round(sweep(run, pair.task, score).area(), 4) == area
        curve = sweep(run, pair.task, "margin")
        assert round(float((curve.oracle[1:] + curve.oracle[:-1]).mean() / 2), 4) == 0.9647
