"""A teacher of another process: breaker by a clock that is set, patience, and reasons. Waits are by event."""

import asyncio

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.serving.batcher import Batched
from ebjr_det.serving.breaker import PAUSES, Breaker, Patience
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.guard import Guarded
from ebjr_det.serving.teacher import Deferred

ONE = Deferred([b"picture"], [None], [0.0])


@pytest.mark.parametrize(
    ("faults", "opens"),
    [
        ("110", False),
        ("0111", True),
        ("01" * 9, False),
        ("01" * 10, True),
        ("01" * 9 + "000" * 7 + "01", False),
    ],
)
def test_three_faults_running_or_ten_of_twenty_open_a_breaker(faults, opens):
    breaker = Breaker()
    for fault in faults:
        breaker.count(fault == "1")
    assert breaker.is_open == opens


def test_probes_come_one_at_a_time_after_longer_and_longer_pauses():
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    breaker.open()
    for pause in (*PAUSES, PAUSES[-1]):
        assert not breaker.begin_probe()
        assert breaker.pause == pytest.approx(pause)
        now[0] += pause
        assert breaker.begin_probe()
        assert not breaker.begin_probe()
        breaker.end_probe(fault=True)
    now[0] += PAUSES[-1]
    assert breaker.begin_probe()
    breaker.end_probe(fault=False)
    assert not breaker.is_open
    breaker.count(fault=True)
    assert not breaker.is_open, "faults of before are forgotten"


def test_patience_is_thrice_the_95th_percentile_by_request_and_by_picture_and_no_less_than_50_ms():
    patience = Patience()
    assert patience.seconds(1) == np.inf
    patience.add(0.001, 1)
    assert patience.seconds(1) == patience.seconds(16) == 0.05
    assert patience.seconds(64) == pytest.approx(0.192)
    for seconds in np.linspace(0.0, 1.0, 101):
        patience.add(float(seconds), 2)
    expected = 3 * np.percentile(np.linspace(0.01, 1.0, 100), 95)
    assert patience.seconds(1) == patience.seconds(2) == pytest.approx(expected)
    assert patience.seconds(4) == pytest.approx(2 * expected)


class Scripted:
    """A link that does what it is told, one word a request."""

    def __init__(self, *words):
        self.words, self.cancelled = list(words), 0

    def warm(self, deferred):
        raise Unavailable("died")

    async def ask(self, deferred):
        word = self.words.pop(0)
        if word == "hang":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if word == "bad":
            raise InvalidInput("Expected a picture.")
        if word != "ok":
            raise Unavailable(word)
        return Batched([7], 0.0, 0.0)

    def close(self):
        pass


def answers_of(guarded, *lefts):
    """The prediction, or the reason why there is none, of requests one after the other."""

    async def run():
        results = []
        for left in lefts:
            try:
                results.append((await guarded.answer(ONE, left)).results[0])
            except Unavailable as fault:
                results.append(fault.reason)
            except InvalidInput:
                results.append("bad")
            await asyncio.gather(*guarded.probes)
        return results

    return asyncio.run(run())


def test_reasons_are_told_apart_and_faults_of_the_tier_alone_open_the_breaker():
    link = Scripted("ok", "busy", "bad", "hang", "busy", "died", "hang", "ok", "died", "timeout", "died")
    guarded = Guarded(link)
    guarded.patience.add(0.001, 1)
    inf = np.inf
    results = answers_of(guarded, inf, inf, inf, 0.01, inf, inf, inf, inf, inf, inf, inf, inf)
    assert results == [
        7,
        "busy",
        "bad",
        "deadline",
        "busy",
        "died",
        "timeout",
        7,
        "died",
        "timeout",
        "died",
        "breaker",
    ]
    assert guarded.breaker.is_open
    assert (guarded.waiting, link.cancelled, link.words) == (0, 2, [])


def test_a_teacher_that_comes_late_is_found_by_a_probe_for_which_nobody_waits():
    link = Scripted("died", "ok", "ok")
    guarded, now = Guarded(link), [0.0]
    guarded.breaker.clock = lambda: now[0]
    assert guarded.warm(ONE) == []
    assert answers_of(guarded, np.inf) == ["breaker"]
    assert len(link.words) == 3, "no probe is due yet"
    for pause in PAUSES[:2]:
        assert guarded.breaker_state == 1
        now[0] += pause
        assert answers_of(guarded, np.inf) == ["breaker"]
    assert guarded.breaker_state == 0
    assert answers_of(guarded, np.inf) == [7]
