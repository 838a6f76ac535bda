"""Scenarios against a clock of our own: who is asked what and when, and every number by hand."""

import json
import stat
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.router import decide
from ebjr_det.core.types import Logits, Output
from ebjr_det.evaluation.benchmark.against import Against
from ebjr_det.evaluation.benchmark.machine import WINDOWS, gpu_state, metered
from ebjr_det.evaluation.benchmark.ratios import Ratio, joint_ratio, speedup
from ebjr_det.evaluation.benchmark.result import (
    Benchmark,
    JouleWindows,
    Machine,
    OfflineQueries,
    Point,
    ServerLoad,
    StageTimes,
    UsedModel,
)
from ebjr_det.evaluation.benchmark.scenarios import (
    Calls,
    Pace,
    Requests,
    Subject,
    closed_loop,
    poisson_arrivals,
    server,
)
from ebjr_det.evaluation.benchmark.subjects import (
    AT_THRESHOLD,
    StagedModel,
    halves,
    points_at,
    sample_of,
    subjects_of,
)
from ebjr_det.evaluation.benchmark.summary import summarize
from ebjr_det.io.load import Load, Stopwatch
from ebjr_det.reporting.benchmark.tables import benchmark_tables, sentences
from ebjr_det.reporting.table import document
from ebjr_det.tasks.adapted import Changed


class Clock:
    """A clock that moves when told, and by sleeping."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds

    def pace(self, seconds, **others):
        return Pace(seconds, clock=self, sleep=self.spend, **others)


def worker(clock, name, seconds_an_image, seen=None):
    def call(images):
        clock.spend(seconds_an_image * len(images))
        if seen is not None:
            seen.append((name, list(images)))
        return 0

    return Subject(name, call)


# --- Closed loops ---


def test_every_round_asks_all_the_same_and_each_time_another_one_first():
    clock, seen = Clock(), []
    subjects = [worker(clock, name, 1.0, seen) for name in "ab"]
    calls = closed_loop(subjects, [10, 11, 12], 2, clock.pace(1.0, least=3, warmup=1))
    warm = [("a", [10, 11]), ("b", [10, 11])]
    rounds = [("a", [10, 11]), ("b", [10, 11]), ("b", [12, 10]), ("a", [12, 10])]
    assert seen == [*warm, *rounds, ("a", [11, 12]), ("b", [11, 12])]
    assert calls["a"] == Calls(2, (2000.0,) * 3, (0, 0, 0))


def test_a_loop_ends_when_the_time_of_all_is_over():
    clock = Clock()
    subjects = [worker(clock, "fast", 0.25), worker(clock, "slow", 0.75)]
    calls = closed_loop(subjects, [0], 1, clock.pace(5.0, least=1, warmup=0))
    assert {name: len(own.ms) for name, own in calls.items()} == {"fast": 10, "slow": 10}
    assert clock.now == 10.0


def test_time_that_goes_by_is_told():
    clock, told = Clock(), []
    closed_loop([worker(clock, "a", 0.5)], [0], 1, clock.pace(2.0, least=1, warmup=0, tick=told.append))
    assert sum(told) == 2.0


def test_joules_are_read_in_windows_of_a_second_that_take_turns():
    clock, seen = Clock(), []
    subjects = [worker(clock, "a", 0.25, seen), worker(clock, "b", 3.0, seen)]
    found = metered(subjects, "xyz", 2, lambda: 7.0 + 40 * clock.now, clock.pace(0.1))  # at 40 watts
    assert found == {"a": (10.0,) * WINDOWS, "b": (120.0,) * WINDOWS}
    assert seen[:3] == [("a", ["x", "y"]), ("a", ["z", "x"]), ("b", ["x", "y"])]
    assert [name for name, _ in seen[3:6]] == ["b", "a", "a"]


def test_numbers_of_a_loop_by_hand():
    calls = Calls(4, (4.0, 8.0, 12.0, 40.0), (0, 4, 1, 0))
    assert calls.mean == 4.0
    assert calls.throughput == pytest.approx(16 / 0.064)
    assert calls.deferral_rate == 5 / 16
    assert calls.drift == pytest.approx(6.5 / 1.5 - 1)
    assert Calls(1, (3.0,), (0,)).drift == 0


@pytest.mark.parametrize(
    "bad", [(0, (1.0,), (0,)), (1, (), ()), (1, (1.0,), ()), (1, (np.nan,), (0,)), (1, (-1.0,), (0,))]
)
def test_calls_that_cannot_be_are_refused(bad):
    with pytest.raises(InvalidInput):
        Calls(*bad)


def test_nothing_to_ask_is_refused():
    clock = Clock()
    subject, pace = worker(clock, "a", 1.0), clock.pace(1.0)
    for subjects, images in (([], [0]), ([subject], [])):
        with pytest.raises(InvalidInput, match="at least one subject"):
            closed_loop(subjects, images, 1, pace)
    with pytest.raises(ConfigError, match="batch of at least 1"):
        closed_loop([subject], [0], 0, pace)
    with pytest.raises(InvalidInput, match="times of arrival"):
        server([subject], [0], np.array([2.0, 1.0]), 1, pace)


# --- Server ---


def test_a_queue_by_hand_with_batches():
    """One image takes 1 s. At 1.0 one is there, at 2.0 three wait and two are taken, at 4.0 two wait."""
    clock, seen = Clock(), []
    arrivals = np.array([1.0, 1.25, 1.5, 1.75, 4.0])
    found = server([worker(clock, "a", 1.0, seen)], [10, 11, 12], arrivals, 2, clock.pace(9, warmup=0))["a"]
    assert [images for _, images in seen] == [[10], [11, 12], [10, 11]]
    assert found.latency_ms == (1000.0, 2750.0, 2500.0, 4250.0, 2000.0)
    assert found.batches == (1, 2, 2)
    assert found.inside(2500.0) == 3 / 5
    assert found.quantile(50) == 2500.0


def test_who_is_too_slow_leaves_requests_without_an_answer():
    clock = Clock()
    arrivals = np.arange(1.0, 9.0)
    found = server([worker(clock, "a", 4.0)], [0], arrivals, 1, clock.pace(9, warmup=0))["a"]
    assert found.latency_ms == (4000.0, 7000.0, 10000.0, 13000.0, None, None, None, None)
    assert (found.quantile(50), found.quantile(90)) == (13000.0, None)
    assert found.inside(1e9) == 0.5


def test_what_a_server_defers_is_counted_without_its_warm_up():
    clock, sent = Clock(), []
    subject = Subject("a", lambda images: sent.extend(images) or len(images))
    found = server([subject], [1], np.array([1.0, 2.0]), 4, clock.pace(2))["a"]
    assert (len(sent), found.deferred, found.deferral_rate) == (7, 2, 1.0)


@pytest.mark.parametrize(
    ("rate", "seconds"), [(0, 1), (-1, 1), (np.nan, 1), (np.inf, 1), (1, 0), (1, np.nan)]
)
def test_arrivals_that_cannot_be_are_refused(rate, seconds):
    with pytest.raises(ConfigError, match="above 0"):
        poisson_arrivals(rate, seconds, 0)


def test_gaps_are_exponential():
    from scipy.stats import kstest

    arrivals = poisson_arrivals(50.0, 100.0, seed=3)
    assert len(arrivals) == pytest.approx(5000, abs=4 * 5000**0.5)
    assert kstest(np.diff(arrivals), "expon", args=(0, 1 / 50)).pvalue > 0.01


# --- Ratios ---


def test_a_speedup_is_old_over_new_in_words():
    quick, slow = np.linspace(1.0, 1.2, 100), np.linspace(2.0, 2.4, 100)
    found = speedup(slow, quick, "median")
    assert found.value == pytest.approx(2.0)
    assert found.low <= 2.0 <= found.high
    assert [speedup(*both, "mean").verdict() for both in ((slow, quick), (quick, slow), (slow, slow))] == [
        "faster",
        "slower",
        "not told apart",
    ]
    assert speedup([2.0], [1.0], "mean") == Ratio(2.0, None, None)
    assert Ratio(2.0, None, None).verdict() == "not told apart"


def test_an_interval_covers_the_truth_also_of_calls_that_resemble_their_neighbours():
    generator, inside, count = np.random.default_rng(0), 0, 60
    for seed in range(count):
        series = []
        for _ in range(2):
            noise = generator.normal(size=430)
            smooth = np.convolve(noise, np.ones(5) / 5**0.5, "valid")
            series.append(10 + smooth)
        found = speedup(*series, "mean", replicates=200, seed=seed)
        inside += found.low <= 1 <= found.high
    assert inside >= 0.85 * count


def test_joining_by_hand():
    student, teacher = Calls(2, (2.0,) * 10, (0,) * 10), Calls(2, (10.0,) * 10, (0,) * 10)
    joint = Calls(2, (9.0,) * 10, (1,) * 10)
    assert joint_ratio(student, teacher, joint) == Ratio(9 / 7, 9 / 7, 9 / 7)


# --- Subjects ---


class Doubling:
    name = "doubling"

    def preprocess(self, image):
        return image + 1

    def forward(self, inputs):
        return [2 * value for value in inputs]

    def decode(self, raw, inputs):
        return Output(raw, Logits.one_row(np.array([[float(value), 0.0] for value in raw])))

    def __call__(self, inputs):
        return self.decode(self.forward(inputs), inputs)


def tripled(output):
    return replace(output, predictions=[3 * value for value in output.predictions])


def test_halves_of_a_changed_model_are_the_whole_with_its_change():
    model = Changed(Changed(Doubling(), tripled), tripled)
    forward, decode = halves(model)
    assert decode(forward([1, 2]), [1, 2]).predictions == model([1, 2]).predictions == [18, 36]
    bare = SimpleNamespace(name="bare", preprocess=int, forward=len)
    assert halves(bare) is None
    assert halves(Changed(bare, tripled)) is None


def test_a_watched_model_answers_the_same_and_tells_its_stages():
    watch = Stopwatch()
    model = StagedModel(Changed(Doubling(), tripled), "student", watch)
    assert model([model.preprocess(1)]).predictions == [12]
    assert set(watch.read()) == {"preprocess", "student network", "post-processing"}
    whole = StagedModel(lambda_model(), "teacher", watch)
    assert whole([1]).predictions == [2]
    assert set(watch.read()) == {"teacher network"}
    assert watch.read() == {}


def lambda_model():
    class Plain:
        name = "plain"
        preprocess = staticmethod(int)

        def __call__(self, inputs):
            return Doubling()(inputs)

    return Plain()


def test_subjects_answer_in_batches_and_count_what_they_defer():
    sizes = []

    class Counting(Doubling):
        def __call__(self, inputs):
            sizes.append(len(inputs))
            return super().__call__(inputs)

    points = points_at(np.array([4.0, 6.0, 8.0, 10.0]), [0.5], -np.inf)
    assert points == {"joint 50 %": Point(7.0, 0.5), AT_THRESHOLD: Point(-np.inf)}
    models = {"student": Counting(), "teacher": Counting()}
    student, _, half, every = subjects_of(models, lambda o: o.logits.values[:, 0, 0], points, 3)
    assert student.call([1, 2, 3, 4]) == 0
    assert sizes == [3, 1]
    assert [subject.call([1, 2, 3, 4]) for subject in (half, every)] == [2, 4]
    assert decide([4.0, 6.0, 8.0, 10.0], 7.0).defer.sum() == 2


class Pictures:
    skip_unreadable = True

    def __len__(self):
        return 10

    def load(self, index):
        if index % 2:
            raise InvalidInput(f"Expected picture {index} to be whole.")
        return index


def test_a_sample_is_seeded_and_goes_on_behind_what_cannot_be_read(capsys):
    places, pictures = sample_of(Pictures(), 3, seed=1)
    assert places == pictures == sample_of(Pictures(), 3, seed=1)[0]
    assert len(set(places)) == 3
    assert not any(place % 2 for place in places)
    assert "Left out" in capsys.readouterr().err
    assert sorted(sample_of(Pictures(), 64, seed=2)[0]) == [0, 2, 4, 6, 8]
    strict = Pictures()
    strict.skip_unreadable = False
    with pytest.raises(InvalidInput, match="to be whole"):
        sample_of(strict, 10, seed=0)


def test_the_state_of_a_gpu_is_told_as_far_as_it_is_known(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "$3" > "$0.asked"\necho "1980 MHz, 2619 MHz, 312.10 W"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(name="Some GPU", uuid="ab-c")
    )
    assert gpu_state("cpu") is None
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpu_state("cuda") == {"name": "Some GPU"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_state("cuda") == {
        "name": "Some GPU", "sm_clock": "1980 MHz", "memory_clock": "2619 MHz", "power": "312.10 W",
    }  # fmt: skip
    assert (tmp_path / "nvidia-smi.asked").read_text() == "--id=GPU-ab-c\n"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpu_state("cuda") == {"name": "Some GPU"}


# --- Results ---


def made_up(scale=1.0, load=0.1, slow_end=1.0, **changes):
    names = ("student", "teacher", "joint 30 %")
    halves_of = np.repeat([1.0, slow_end], 20)
    ms = {"student": 2.0, "teacher": 10.0, "joint 30 %": 5.5}
    calls = {
        name: Calls(
            1, tuple(scale * ms[name] * halves_of), ((0, 0, 0, 1) * 10) if "joint" in name else (0,) * 40
        )
        for name in names
    }
    requests = {name: Requests((3.0, None), (1,), 1 if "joint" in name else 0) for name in names}
    stages = {name: {"decode": (1.0,), "student network": (2.0,)} for name in names}
    whole = {
        "title": "Made up",
        "score": "entropy",
        "models": {"student": UsedModel("s", "eager", True), "teacher": UsedModel("t", "eager", False)},
        "points": {"joint 30 %": Point(np.inf, 0.3)},
        "image_ids": ("a", "b"),
        "seed": 0,
        "seconds": 1.0,
        "single": calls,
        "offline": (OfflineQueries(8, calls),),
        "server": ServerLoad(20.0, True, 30.0, False, 8, (0.1, 0.2), requests),
        "stages": (StageTimes(1, stages),),
        "machine": Machine(2, ((load, 0.1, 0.1), (2.0, 1.0, 1.0))),
        "environment": {"device": "A machine", "cpus": 2, "versions": {"torch": "2.0"}},
        "config": {},
    }
    return Benchmark(**(whole | changes))


def test_a_result_survives_its_file(tmp_path):
    result = made_up(
        joules=(JouleWindows(8, dict.fromkeys(("student", "teacher", "joint 30 %"), (0.5, 0.6))),)
    )
    text = result.to_json(summarize(result))
    assert "NaN" not in text
    (tmp_path / "benchmark.json").write_text(text)
    assert Benchmark.load(tmp_path) == Benchmark.load(tmp_path / "benchmark.json") == result


def markdown(result, summary, against):
    return document(result.title, benchmark_tables(result, summary, against), sentences(result, against))


def test_joules_stand_in_the_tables_where_the_device_told_them():
    per_image = {"student": (0.1, 0.3, 0.2), "teacher": (2.0,), "joint 30 %": (0.8,)}
    result = made_up(joules=(JouleWindows(1, per_image),))
    summary = summarize(result)
    assert summary["single_stream"]["student"]["joules_per_image"] == pytest.approx(0.2)
    assert "joules_per_image" not in summary["offline"][0]["subjects"]["student"]
    single, offline = markdown(result, summary, None).split("## ")[1:3]
    assert "J/image" in single
    assert "| 2.000 |" in single
    assert "J/image" not in offline + markdown(made_up(), summarize(made_up()), None)
    with pytest.raises(InvalidInput):
        made_up(joules=(JouleWindows(1, {"student": (1.0,)}),))


def test_the_summary_tells_what_was_measured():
    summary = summarize(made_up())
    joint = summary["single_stream"]["joint 30 %"]
    assert joint["deferral_rate"] == 0.25
    assert joint["over_student_plus_p_teacher"]["value"] == pytest.approx(5.5 / (2 + 0.25 * 10))
    assert "deferral_rate" not in summary["single_stream"]["student"]
    assert summary["server"]["subjects"]["student"] == {
        "inside_bound": 0.5, "p50_ms": 3.0, "p90_ms": None, "p99_ms": None, "answered": 0.5,
        "images_per_call": 1.0, "deferral_rate": None,
    }  # fmt: skip
    assert summary["points"]["joint 30 %"] == {"threshold": None, "rate": 0.3}
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({}, None), ({"load": 1.2}, "load average was 1.20 on 2 CPUs"), ({"slow_end": 1.2}, "+20 %")],
)
def test_noise_is_told_in_words(changes, says):
    result = made_up(**changes)
    said = " ".join(sentences(result, None))
    assert summarize(result)["noise"]["noisy"] == (says is not None)
    assert (says or "No sign of noise") in said
    assert "teacher's network and post-processing are timed together" in said


def test_against_tells_faster_and_what_differs_and_marks_noise():
    old = made_up(scale=2.0, image_ids=("a",), machine=Machine(4, ((0.1, 0.1, 0.1), (0.1, 0.1, 0.1))))
    new = made_up()
    against = Against.of(new, old)
    closed = [row for row in against.rows if row.scenario != "server latency"]
    assert [row.speedup.value for row in closed] == pytest.approx([2.0] * 6)
    assert {row.speedup.verdict() for row in closed} == {"faster"}
    assert {row.statistic for row in closed if row.subject == "joint 30 %"} == {"mean"}
    assert against.differences == ["CPUs 4 then, 2 now", "images 1 then, 2 now"]
    assert "(noisy)" not in markdown(new, summarize(new), against)
    noisy = Against.of(new, made_up(scale=2.0, load=1.5))
    assert noisy.to_dict()["noisy"]
    assert "faster (noisy)" in markdown(new, summarize(new), noisy)


BESIDE = {
    # the load average before the start, the load of others in each scenario -> what is said of noise
    "a neighbour in one scenario": (
        0.1,
        (0.0, 1.3, 0.1),
        ["offline was measured beside a load of 1.30 of 2 CPUs"],
    ),
    "a load average of what ran before": (1.5, (0.0, 0.1, 0.1), []),
    "no load known": (1.5, (None, None, None), ["the load average was 1.50 on 2 CPUs"]),
}


@pytest.mark.parametrize("case", BESIDE)
def test_the_load_in_each_scenario_decides_before_the_load_average(case, tmp_path):
    average, others, said = BESIDE[case]
    names = ("single stream", "offline", "server")
    beside = {name: Load(own, 0.5, 2, 9.0) for name, own in zip(names, others, strict=True)}
    result = made_up(machine=Machine(2, ((average, 0.1, 0.1), (2.0, 1.0, 1.0)), beside=beside))
    assert len(result.noise()) == len(said)
    assert all(start in words for start, words in zip(said, result.noise(), strict=True))
    (tmp_path / "benchmark.json").write_text(result.to_json(summarize(result)))
    assert Benchmark.load(tmp_path) == result
    told = summarize(result)["noise"]
    assert [told["beside"][name]["others"] for name in names] == list(others)
    assert told["noisy"] == bool(said)
    quiet = made_up(scale=2.0)
    for against, when in ((Against.of(result, quiet), "now"), (Against.of(quiet, result), "then")):
        warned = [
            sentence for sentence in sentences(result, against) if sentence.startswith(f"Noisy {when}: ")
        ]
        assert len(warned) == len(said)


def test_the_largest_load_stands_beside_the_times():
    beside = {"offline": Load(0.01, 0.5, 2, 9.0), "server": Load(0.12, 0.5, 2, 9.0)}
    result = made_up(machine=Machine(2, ((0.1, 0.1, 0.1), (2.0, 1.0, 1.0)), beside=beside))
    assert "Measured beside a load of 0.12 of 2 CPUs at most." in sentences(result, None)[0]


def test_against_another_load_does_not_compare_the_server():
    new = made_up()
    answered = {name: Requests((3.0,) * 8, (8,), 0) for name in new.subjects}
    servers = [
        replace(new.server, requests=answered, arrivals_s=(0.1,) * 8, rate=rate) for rate in (5.0, 6.0)
    ]
    one, two = (made_up(server=own) for own in servers)
    assert {row.scenario for row in Against.of(one, one).rows} == {
        "single stream",
        "offline",
        "server latency",
    }
    kinds = {row.subject: row.statistic for row in Against.of(one, one).rows if "server" in row.scenario}
    assert kinds == {"student": "median", "teacher": "median", "joint 30 %": "mean"}
    apart = Against.of(one, two)
    assert "server latency" not in {row.scenario for row in apart.rows}
    assert any("not compared" in what for what in apart.differences)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"models": {"student": UsedModel("x", "eager", True), "teacher": UsedModel("t", "eager", True)}},
            "student `s`",
        ),
        (
            {"models": {"student": UsedModel("s", "eager", True), "teacher": UsedModel("x", "eager", True)}},
            "teacher `t`",
        ),
    ],
)
def test_against_other_models_is_refused(changes, says):
    with pytest.raises(InvalidInput, match=says):
        Against.of(made_up(), made_up(**changes))


def test_results_with_missing_subjects_are_refused():
    whole = made_up()
    for changes in (
        {"single": {"student": whole.single["student"]}},
        {"points": {}},
        {"offline": ()},
        {"stages": ()},
        {"server": replace(whole.server, rate=0.0)},
    ):
        with pytest.raises(InvalidInput):
            made_up(**changes)
