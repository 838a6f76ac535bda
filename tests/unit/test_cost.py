"""Costs: multiply-adds by hand, the formula of a pair, and a clock of our own for latencies."""

import numpy as np
import pytest
import torch
from torch import nn

from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.inference import latency
from ebjr_det.inference.latency import Latency, measure_latency, with_latency
from ebjr_det.io.load import Stopwatch
from ebjr_det.runtimes.macs import count_macs

# --- Multiply-adds ---

BY_HAND = {
    # outputs of a layer x what one output sums over
    "conv 3x3, padded": (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 8 * 10 * 12 * 3 * 9),
    "conv 3x3, stride 2, no bias": (nn.Conv2d(3, 8, 3, stride=2, bias=False), (3, 11, 11), 8 * 5 * 5 * 3 * 9),
    "conv 1x1": (nn.Conv2d(16, 4, 1), (16, 7, 7), 4 * 49 * 16),
    "conv 5x3, dilated": (nn.Conv2d(2, 6, (5, 3), dilation=2), (2, 12, 12), 6 * 4 * 8 * 2 * 15),
    "grouped conv": (nn.Conv2d(8, 12, 3, groups=4), (8, 6, 6), 12 * 16 * 2 * 9),
    "depthwise conv": (nn.Conv2d(8, 8, 3, groups=8, padding=1), (8, 6, 6), 8 * 36 * 9),
    "linear": (nn.Linear(20, 7), (20,), 20 * 7),
    "linear without bias": (nn.Linear(20, 7, bias=False), (20,), 20 * 7),
    "linear on 5 rows": (nn.Linear(20, 7), (5, 20), 5 * 20 * 7),
    "norm, ReLU and pooling are free": (
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        (3, 8, 8),
        64 * 3 * 4,
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_multiply_adds_equal_the_count_by_hand(case):
    layer, shape, macs = BY_HAND[case]
    assert count_macs(lambda: layer.eval()(torch.zeros(1, *shape))) == macs


def test_multiply_adds_are_also_counted_inside_inference_mode():
    layer = nn.Linear(6, 4)

    def call():
        with torch.inference_mode():
            return layer(torch.zeros(1, 6))

    assert count_macs(call) == 24


def test_multiply_adds_of_two_calls_add_up():
    layer = nn.Linear(6, 4)
    assert count_macs(lambda: [layer(torch.zeros(1, 6)) for _ in range(3)]) == 72


@pytest.mark.parametrize(
    "network", [nn.ReLU(), nn.BatchNorm2d(3).eval(), lambda x: x + 1, lambda x: np.ones(3)]
)
def test_a_network_without_convolutions_or_products_is_refused(network):
    with pytest.raises(InvalidInput, match="counted none"):
        count_macs(lambda: network(torch.zeros(1, 3, 4, 4)))


# --- The pair ---


def test_the_pair_costs_the_student_always_and_the_teacher_at_its_rate():
    model = CostModel(student_macs=10, teacher_macs=200, student_ms=1.5, teacher_ms=4)
    assert [model.macs(p) for p in (0, 0.25, 1)] == [10, 60, 210]
    assert [model.latency_ms(p) for p in (0, 0.25, 1)] == [1.5, 2.5, 5.5]
    np.testing.assert_array_equal(model.macs(np.array([0.0, 0.5])), [10, 110])


@pytest.mark.parametrize("known", [{}, {"student_macs": 1.0}, {"teacher_macs": 1.0}, {"teacher_ms": 2.0}])
def test_a_pair_with_an_unknown_part_has_no_cost(known):
    model = CostModel(**known)
    assert model.macs(0.5) is None
    assert model.latency_ms(0.5) is None


@pytest.mark.parametrize("bad", [-1, -1e-9, float("nan"), float("inf"), 1e31, 1e-10])
@pytest.mark.parametrize("name", ["student_macs", "teacher_macs", "student_ms", "teacher_ms"])
def test_a_cost_that_is_no_number_of_at_least_0_is_refused_by_name(name, bad):
    with pytest.raises(ConfigError, match=name):
        CostModel(**{name: bad})


def test_a_cost_of_0_is_lawful():
    assert CostModel(0, 0, 0, 0).macs(1.0) == 0


# --- Latency ---


def test_latency_is_per_image_with_linear_percentiles():
    """101 batches of 4 images that take 4, 8, ..., 404 ms, in any order: 1, 2, ..., 101 ms an image."""
    times = np.random.default_rng(0).permutation(np.arange(1, 102) * 4.0)
    latency = Latency.of(times, batch_size=4, device="a machine")
    assert latency == Latency(51.0, 51.0, 91.0, 100.0, batch_size=4, images=404, device="a machine")
    assert latency.to_dict()["p90"] == 91.0


def test_the_mean_is_not_the_median():
    latency = Latency.of([1.0, 1.0, 10.0], batch_size=1, device="cpu")
    assert (latency.mean, latency.p50) == (4.0, 1.0)
    assert latency.p90 == pytest.approx(1 + 0.8 * 9)


class Clock:
    """A clock that moves only when told."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def spend(self, milliseconds):
        self.seconds += milliseconds / 1e3


@pytest.fixture
def clock(monkeypatch):
    """The clock that `measure_latency` reads."""
    clock = Clock()
    monkeypatch.setattr(latency, "Stopwatch", lambda: Stopwatch(clock))
    return clock


def test_every_batch_goes_through_each_callable_each_time_another_one_first(clock):
    seen = []
    calls = {name: lambda batch, name=name: seen.append((name, batch)) for name in ("student", "teacher")}
    measure_latency(calls, ["b0", "b1", "b2"], batch_size=1, device="cpu", warmup=2)
    first = [("student", "b0")] * 3 + [("teacher", "b0")] * 3
    rest = [("teacher", "b1"), ("student", "b1"), ("student", "b2"), ("teacher", "b2")]
    assert seen == first + rest


def test_without_warm_up_every_call_is_timed(clock):
    seen = []
    times = measure_latency({"a": seen.append}, range(5), batch_size=1, device="cpu", warmup=0)
    assert seen == [0, 1, 2, 3, 4]
    assert times["a"].images == 5


def test_times_are_those_of_the_calls_and_neither_of_warm_up_nor_of_loading(clock):
    calls_left = {"student": 2, "teacher": 2}

    def model(name, milliseconds):
        def call(batch):
            calls_left[name] -= 1
            clock.spend(1000 if calls_left[name] >= 0 else milliseconds * batch)

        return call

    def batches():
        for size in (1, 2, 3):
            clock.spend(500)  # decoding
            yield size

    calls = {"student": model("student", 8), "teacher": model("teacher", 40)}
    times = measure_latency(calls, batches(), batch_size=4, device="cpu", warmup=2)
    assert times["student"].mean == pytest.approx(8 * 2 / 4)
    assert times["student"].p50 == pytest.approx(4)
    assert times["teacher"].mean == pytest.approx(20)
    assert (times["teacher"].batch_size, times["teacher"].images) == (4, 12)
    assert times["teacher"].device == "cpu"


def test_no_batches_are_refused(clock):
    with pytest.raises(InvalidInput, match="at least one batch"):
        measure_latency({"student": lambda batch: None}, [], batch_size=1, device="cpu")


# --- Latency by the size of a batch ---


def test_a_measured_batch_size_gives_back_what_was_measured():
    cost = CostModel(1.0, 2.0, by_batch={1: (4.0, 30.0), 8: (2.0, 25.0)})
    at_eight = cost.at_batch(8)
    assert (at_eight.student_ms, at_eight.teacher_ms) == (2.0, 25.0)
    assert at_eight.latency_ms(0.5) == pytest.approx(14.5)
    assert (at_eight.student_macs, at_eight.teacher_macs) == (1.0, 2.0)


def test_between_measured_sizes_the_time_of_a_batch_is_on_a_line():
    at_four = CostModel(by_batch={2: (5.0, 10.0), 6: (3.0, 10.0)}).at_batch(4)
    assert at_four.student_ms == pytest.approx((10.0 + 18.0) / 2 / 4)
    assert at_four.teacher_ms == pytest.approx(10.0)


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_batch_size_outside_what_was_measured_is_refused(size):
    with pytest.raises(ConfigError, match=rf"got {size}; measured: 2 to 8"):
        CostModel(by_batch={2: (1.0, 2.0), 8: (1.0, 2.0)}).at_batch(size)


def test_without_measurements_no_batch_size_is_known():
    with pytest.raises(ConfigError, match="measured: none"):
        CostModel(student_ms=1.0, teacher_ms=2.0).at_batch(1)


def test_measured_latencies_are_kept_by_their_batch_size():
    times = {side: Latency.of([ms] * 3, 2, "cpu") for side, ms in (("student", 4.0), ("teacher", 20.0))}
    cost = with_latency(CostModel(1.0, 2.0), times, {8: (1.5, 9.0)})
    assert dict(cost.by_batch) == {2: (2.0, 10.0), 8: (1.5, 9.0)}
    assert (cost.student_ms, cost.teacher_ms) == (2.0, 10.0)
    assert with_latency(CostModel(1.0, 2.0), {}) == CostModel(1.0, 2.0)
