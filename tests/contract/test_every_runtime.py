"""What every runtime owes the models: eager torch's outputs, at another speed, and an honest `invariant`.

Compiling takes seconds even for a tiny network, so it is done in `slow` tests only. On a GPU:
EBJR_DET_TEST_DEVICE=cuda.
"""

import os

import numpy as np
import onnxruntime
import pytest
import torch
from common import SCENES_PAIR
from torch import nn

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.scores import deferral_scores
from ebjr_det.inference.pair import Pair
from ebjr_det.inference.ready import make_ready
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.runtimes.choose import drift
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.runtimes.onnx import PROVIDERS
from ebjr_det.runtimes.registry import EIGHT_BITS, RUNTIMES, build_network, installed, stacked
from ebjr_det.tasks.settings import load_config

IMAGES = 9
DEVICE = os.environ.get("EBJR_DET_TEST_DEVICE", "cpu")
HERE = [r for r in RUNTIMES.values() if DEVICE in r.devices and installed(r)]
if DEVICE != "cpu" and PROVIDERS[DEVICE] not in onnxruntime.get_available_providers():
    HERE = [r for r in HERE if r.name != "onnxruntime"]
ONE_SIZE = ("onnxruntime", "openvino", *(["compile"] if DEVICE == "cpu" else []))
"""Beginnings of the names of those that take pictures of one size alone."""
LOW = {name for name in RUNTIMES if name.endswith(("bf16", "fp16"))} | EIGHT_BITS.keys()


def every_runtime(slow=("compile", *EIGHT_BITS)):
    """All, of which those whose names begin so are slow."""
    return [pytest.param(r.name, marks=[pytest.mark.slow] if r.name.startswith(slow) else []) for r in HERE]


class Tiny(nn.Module):
    """Odd in every size, so that rows lie askew in memory."""

    outputs = ("logits", "features")

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.Conv2d(5, 7, 3))
        self.last = nn.Linear(7, 11)
        self.register_buffer("mean", torch.tensor(0.3), persistent=False)

    def forward(self, images):
        features = torch.relu(self.first(images - self.mean)).mean((2, 3))
        return self.last(features), features


@pytest.fixture(scope="module")
def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        graph = Tiny().eval().to(DEVICE)
    return graph, np.random.default_rng(0).normal(size=(IMAGES, 3, 19, 19)).astype(np.float32)


@pytest.fixture(scope="module")
def pairs():
    """The embedded pairs in eager torch; who sets another runtime takes it away again."""
    changes = {"digits": (), "quickstart": SCENES_PAIR}
    return {
        name: Pair.build(load_config(f"configs/{name}.yaml", [f"run.device={DEVICE}", *more]))
        for name, more in changes.items()
    }


@pytest.fixture(scope="module")
def models(pairs):
    """Name -> model, its pictures and the batch that its network takes."""
    found = {}
    for name, sides in (("digits", 2), ("quickstart", 1)):
        pair = pairs[name]
        pictures = [pair.data.load(index) for index in range(IMAGES)]
        for model in (pair.student, pair.teacher)[:sides]:
            batch = np.asarray(model.batch([model.preprocess(picture) for picture in pictures]))
            found[f"{name} {model.name}"] = model, pictures, batch
    assert len(found) == 3
    return found


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def outputs(network, batch):
    return [stacked(column) for column in network(batch)]


def state_of(graph):
    """Bits and memory layout of all weights and buffers."""
    tensors = [*graph.named_parameters(), *graph.named_buffers()]
    return [(name, t.detach().cpu().numpy().tobytes(), t.stride(), t.device, t.dtype) for name, t in tensors]


def check(name, graph, batch, eight_bits=0.15):
    """Everything a runtime promises about one network, which drifts at most so far in eight bits."""
    before, given = state_of(graph), batch.copy()
    wanted = outputs(build_network("eager", graph, batch, DEVICE), batch)
    network = build_network(name, graph, batch, DEVICE)
    whole = outputs(network, batch)
    assert state_of(graph) == before
    np.testing.assert_array_equal(batch, given)
    assert [one.shape for one in whole] == [one.shape for one in wanted]
    assert all(one.dtype == np.float32 for one in whole)
    moved = drift(whole, wanted)
    exact = name in ("eager", "channels_last")  # on a GPU the others multiply in TF32
    low = eight_bits if name in EIGHT_BITS else 0.05
    assert moved < (low if name in LOW else 1e-4 if exact else 2e-3 if DEVICE == "cuda" else 1e-3)
    assert name == "eager" or name not in LOW or moved > 1e-5, "as exact as float32: is it in fewer bits?"
    for again, first in zip(outputs(network, batch), whole, strict=True):
        assert again.tobytes() == first.tobytes()
    if name.startswith(ONE_SIZE):
        with pytest.raises(InvalidInput, match=r"^Expected [^\n]+, got \[[^\n]+$") as error:
            network(batch[..., 1:])
        assert f"got {list(batch[0, ..., 1:].shape)}" in str(error.value)
    if network.invariant:
        alone = [outputs(network, batch[at : at + 1]) for at in range(len(batch))]
        for size in (2, 3, 8):
            for start in (0, 1):
                together = outputs(network, batch[start : start + size])
                for place in range(size):
                    for mixed, single in zip(together, alone[start + place], strict=True):
                        assert mixed[place].tobytes() == single[0].tobytes()


def test_every_runtime_says_what_it_is():
    assert len({runtime.what for runtime in RUNTIMES.values()}) == len(RUNTIMES)
    assert all(runtime.what and runtime.name == name for name, runtime in RUNTIMES.items())
    assert all(bool(runtime.packages) == bool(runtime.extra) for runtime in RUNTIMES.values())
    assert next(iter(RUNTIMES)) == "eager"


@pytest.mark.parametrize("name", every_runtime(("compile",)))
def test_a_tiny_network_keeps_every_promise(name, tiny):
    check(name, *tiny)


@pytest.mark.parametrize("name", every_runtime())
def test_networks_of_the_pairs_keep_every_promise(name, models):
    for (
        model,
        _,
        batch,
    ) in models.values():  # in eight bits outputs drift far, and AP stays
        check(name, model.graph, batch, eight_bits=np.inf)


@pytest.mark.parametrize("name", every_runtime())
def test_macs_do_not_depend_on_the_runtime(name, models):
    for model, pictures, batch in models.values():
        wanted = macs_of(model, pictures[0], None)
        model.run = build_network(name, model.graph, batch, DEVICE)
        try:
            assert macs_of(model, pictures[0], None) == wanted > 0
        finally:
            model.run = model.eager


@pytest.mark.parametrize(
    ("config", "name"),
    [
        *(pytest.param("digits", *each.values, marks=each.marks) for each in every_runtime()),
        *(pytest.param("quickstart", *each.values, marks=each.marks) for each in every_runtime(ONE_SIZE)),
    ],
)
def test_a_stream_answers_as_the_joint_model_to_the_bit(name, config, pairs, monkeypatch):
    """Also with a student and a teacher that work in two threads, and answers that outlive later batches."""
    pair, changes = pairs[config], [f"{side}.runtime={name}" for side in ("student", "teacher")]
    student, teacher = pair.student, pair.teacher
    for model in (student, teacher):
        monkeypatch.setattr(model, "run", model.run)  # so that it is restored
    pictures = [pair.data.load(index) for index in range(12)]
    changes += SCENES_PAIR if config == "quickstart" else ()
    settings = load_config(f"configs/{config}.yaml", [*changes, "run.tolerance=0.1"])
    make_ready(settings, (student, teacher), lambda: pictures[:4], DEVICE, lambda: pair.part)
    assert teacher.invariant == teacher.run.invariant

    def score(output):
        return deferral_scores(output.logits, "max_softmax")

    scores = score(student([student.preprocess(picture) for picture in pictures]))
    joint = JointModel(student, teacher, score, float(np.median(scores)))
    wanted = [joint(pictures[at : at + 3]) for at in range(0, 12, 3)]
    plan = Plan(batch_size=3, teacher_batch=4, workers=1, overlap=True)
    found = list(answers(joint, range(12), pictures.__getitem__, plan))
    deferred = np.concatenate([one.decision.defer for one in wanted])
    assert 0 < deferred.sum() < 12
    assert [one.deferred for one in found] == deferred.tolist()
    np.testing.assert_array_equal(
        [one.score for one in found], np.concatenate([one.decision.scores for one in wanted])
    )
    flat = [prediction for one in wanted for prediction in one.predictions]
    for one, prediction in zip(found, flat, strict=True):
        ours, theirs = (bits(value) for value in (one.prediction, prediction))
        assert ours == theirs


def bits(prediction):
    """Of a vector, or of boxes, scores and labels."""
    parts = [prediction] if isinstance(prediction, np.ndarray) else vars(prediction).values()
    return [np.asarray(part).tobytes() for part in parts]
