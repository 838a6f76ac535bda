"""The load beside a measurement: injected counters, a made-up /proc/stat, and what is said about it."""

import os

import pytest

from ebjr_det.inference.latency import measure_latency
from ebjr_det.io.load import Load, Meter, Reading, read_cpus


def load_of(*, seconds, busy, own):
    readings = iter([Reading(100.0, 50.0, 7.0), Reading(100.0 + seconds, busy and 50.0 + busy, 7.0 + own)])
    return Meter(lambda: next(readings)).lap()


def test_the_load_is_what_the_cpus_did_less_what_this_process_did():
    load = load_of(seconds=10.0, busy=19.0, own=6.0)
    assert (load.others, load.own, load.seconds) == pytest.approx((1.3, 0.6, 10.0))


VERDICTS = {
    # CPUs' busy seconds in ten, of which this process had 10 -> noisy
    "alone": (10.0, False),
    "what every machine does beside": (11.9, False),
    "more than a fifth of a CPU": (12.1, True),
    "a busy neighbour": (20.0, True),
    "ticks that round to less than its own": (9.9, False),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_the_verdict_follows_from_what_others_took(case):
    busy, noisy = VERDICTS[case]
    load = load_of(seconds=10.0, busy=busy, own=10.0)
    assert load.noisy is noisy
    assert load.others >= 0


UNKNOWN = {
    "a system that does not tell": {"seconds": 10.0, "busy": None, "own": 1.0},
    "too short for ticks of 10 ms": {"seconds": 0.4, "busy": 0.8, "own": 0.1},
    "a sandbox that does not even count this process": {"seconds": 10.0, "busy": 0.0, "own": 9.0},
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_an_unknown_load_is_called_unknown_and_neither_quiet_nor_noisy(case):
    load = load_of(**UNKNOWN[case])
    assert (load.others, load.noisy, load.in_words) == (None, False, "beside an unknown load")


def test_it_is_told_in_words():
    assert Load(1.3, 0.7, 2, 60.0).in_words == "beside a load of 1.30 of 2 CPUs: noisy"
    assert Load(0.04, 1.9, 2, 60.0).in_words == "beside a load of 0.04 of 2 CPUs"


def test_a_lap_begins_where_the_last_one_ended():
    readings = iter([Reading(0.0, 0.0, 0.0), Reading(1.0, 2.0, 1.0), Reading(3.0, 2.0, 1.0)])
    meter = Meter(lambda: next(readings))
    assert [meter.lap().others, meter.lap().others] == [1.0, 0.0]


def test_busy_time_is_all_but_idle_and_waiting_of_the_cpus_that_this_process_may_use(tmp_path, monkeypatch):
    """Steal is work of other machines; a guest's time is in user already."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 9 9\n"
        "cpu0 100 20 3 7000 800 4 5 60 70 8\n"
        "cpu1 1000 0 0 9 9 0 0 0 0 0\n"
        "cpu2 1 1 1 1 1 1 1 1 0 0\n"
        "intr 5 6\n"
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2})
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    assert read_cpus(tmp_path).busy == pytest.approx((100 + 20 + 3 + 4 + 5 + 60 + 6) / 100)


def test_without_such_a_file_nothing_is_known(tmp_path):
    assert read_cpus(tmp_path).busy is None


def test_this_process_is_counted():
    before = read_cpus()
    sum(range(3_000_000))
    assert read_cpus().own > before.own


def test_a_latency_tells_the_load_beside_it():
    readings = iter([Reading(0.0, 0.0, 0.0), Reading(2.0, 3.0, 1.0)])
    times = measure_latency(
        {"student": lambda batch: None, "teacher": lambda batch: None}, range(3), batch_size=1, device="cpu",
        read=lambda: next(readings),
    )  # fmt: skip
    assert times["student"].load == times["teacher"].load
    told = times["student"].to_dict()["load"]
    assert (told["others"], told["own"], told["noisy"]) == (1.0, 0.5, True)
