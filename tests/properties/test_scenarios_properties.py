"""Scenarios on a clock of our own, for any service times and arrivals: queues as theory has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebjr_det.evaluation.benchmark.scenarios import Pace, Subject, closed_loop, poisson_arrivals, server
from ebjr_det.evaluation.benchmark.summary import closed_numbers

GRID = 1 / 64  # sums of such numbers are exact
SERVICE = st.lists(st.integers(0, 300).map(lambda n: n * GRID), min_size=1, max_size=20)
SLICES = st.sampled_from([1, 2, 4, 8])  # a slice's end is exact, too
GAPS = st.lists(st.integers(0, 200).map(lambda n: n * GRID), min_size=1, max_size=40)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds


def subject(clock, name, service, seen=None):
    """Its n-th call takes the n-th service time, over and over."""
    count = 0

    def call(images):
        nonlocal count
        clock.spend(service[count % len(service)])
        count += 1
        if seen is not None:
            seen.append(list(images))
        return 0

    return Subject(name, call)


def known(latencies):
    """With -1 for None, which approx does not take."""
    return [-1.0 if ms is None else ms for ms in latencies]


def pace(clock, seconds=1.0, **others):
    return Pace(seconds, clock=clock, sleep=clock.spend, warmup=0, **others)


def arrivals_of(gaps):
    times = np.cumsum(gaps)
    return times + (GRID if times[-1] == 0 else 0)


def queue_by_hand(arrivals, service, batch_size, end):
    """Latencies where a free server takes what waits, first come first served, and nothing from `end` on."""
    free, done, calls, latency = 0.0, 0, 0, []
    while done < len(arrivals):
        start = max(free, arrivals[done])
        if start >= end:
            break
        count = min(sum(1 for at in arrivals[done:] if at <= start), batch_size)
        free = start + service[calls % len(service)]
        latency += [(free - at) * 1e3 for at in arrivals[done : done + count]]
        done, calls = done + count, calls + 1
    return [*latency, *[None] * (len(arrivals) - len(latency))]


@given(gaps=GAPS, service=SERVICE, batch_size=st.integers(1, 5), slices=SLICES)
def test_a_server_is_the_queue_by_hand(gaps, service, batch_size, slices):
    clock, arrivals, seen = Clock(), arrivals_of(gaps), []
    images = list(range(len(arrivals)))
    found = server([subject(clock, "a", service, seen)], images, arrivals, batch_size, pace(clock), slices)[
        "a"
    ]
    assert known(found.latency_ms) == pytest.approx(
        known(queue_by_hand(arrivals, service, batch_size, 2 * arrivals[-1])), rel=1e-9, abs=1e-9
    )
    assert [image for lot in seen for image in lot] == images[: sum(found.batches)], (
        "first come, first served"
    )
    assert found.batches == tuple(map(len, seen))
    assert all(1 <= size <= batch_size for size in found.batches)


@given(gaps=GAPS, services=st.lists(SERVICE, min_size=2, max_size=4), slices=SLICES)
def test_subjects_do_not_see_each_other(gaps, services, slices):
    """The pauses in which others have their turn neither count nor empty a queue."""
    arrivals = arrivals_of(gaps)
    together = Clock()
    subjects = [subject(together, str(index), service) for index, service in enumerate(services)]
    found = server(subjects, [0], arrivals, 2, pace(together), slices)
    for index, service in enumerate(services):
        clock = Clock()
        alone = server([subject(clock, "a", service)], [0], arrivals, 2, pace(clock), 1)["a"]
        assert known(found[str(index)].latency_ms) == pytest.approx(
            known(alone.latency_ms), rel=1e-9, abs=1e-9
        )


@given(seed=st.integers(0, 1000), rate=st.floats(0.1, 500), service=st.floats(1e-4, 0.5))
def test_no_latency_is_below_the_service_time(seed, rate, service):
    clock, arrivals = Clock(), poisson_arrivals(rate, 20 / rate, seed)
    found = server([subject(clock, "a", [service])], [0], arrivals, 1, pace(clock))["a"]
    assert (found.answered >= 1e3 * service * (1 - 1e-9) - 1e-6).all()
    assert len(found.answered) == sum(found.batches)


@given(seed=st.integers(0, 1000), rate=st.floats(0.1, 500), batch_size=st.integers(1, 8))
def test_an_infinitely_fast_server_has_no_latency(seed, rate, batch_size):
    clock, arrivals = Clock(), poisson_arrivals(rate, 20 / rate, seed)
    found = server([subject(clock, "a", [0.0])], [0], arrivals, batch_size, pace(clock))["a"]
    assert list(found.latency_ms) == pytest.approx([0.0] * len(arrivals), abs=1e-6)
    assert found.inside(1e-5) == 1.0
    assert found.quantile(99) == pytest.approx(0.0, abs=1e-6)


@given(seed=st.integers(0, 10_000), rate=st.floats(1e-3, 1e4), expected=st.floats(0.01, 200))
def test_arrivals_are_seeded_ordered_and_inside_their_time(seed, rate, expected):
    seconds = expected / rate
    arrivals = poisson_arrivals(rate, seconds, seed, least=3)
    np.testing.assert_array_equal(arrivals, poisson_arrivals(rate, seconds, seed, least=3))
    assert len(arrivals) >= 3
    assert arrivals[0] > 0
    assert (np.diff(arrivals) > 0).all()
    assert len(arrivals) == 3 or arrivals[-1] < seconds
    np.testing.assert_allclose(
        poisson_arrivals(2 * rate, seconds / 2, seed, least=3), arrivals / 2, rtol=1e-12
    )


@given(service=SERVICE, size=st.integers(1, 9), rounds=st.integers(1, 30))
def test_a_closed_loop_has_numpys_numbers(service, size, rounds):
    clock = Clock()
    calls = closed_loop([subject(clock, "a", service)], [0], size, pace(clock, 1e-12, least=rounds))["a"]
    spent = np.resize(service, len(calls.ms))
    assert len(calls.ms) >= rounds
    np.testing.assert_allclose(calls.ms, 1e3 * spent, rtol=0, atol=1e-9)
    numbers = closed_numbers(calls, None)
    for percent in (50, 90, 99):
        assert numbers[f"p{percent}_ms"] == pytest.approx(np.percentile(1e3 * spent / size, percent))
    assert numbers["mean_ms"] == pytest.approx(1e3 * spent.mean() / size)
    if spent.sum():
        assert numbers["images_per_s"] == pytest.approx(size * len(spent) / spent.sum())
