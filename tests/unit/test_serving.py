"""The parts of a server: batches, laws, drift alarm, desk under load. Waits are by event."""

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ebjr_det.api.serve import load_served
from ebjr_det.core.errors import ConfigError, InvalidInput, OutOfMemory
from ebjr_det.serving.batcher import Batcher, Sizes
from ebjr_det.serving.desk import Ask, Desk
from ebjr_det.serving.fault import Fault
from ebjr_det.serving.laws import build_law
from ebjr_det.serving.metrics import Meters
from ebjr_det.serving.protocol import InferRequest, read_request, write_response
from ebjr_det.serving.rule import Rule
from ebjr_det.serving.server import reload
from ebjr_det.serving.settings import ServeSettings
from ebjr_det.serving.shadow import Shadow
from ebjr_det.serving.watch import Watch
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.tensors import agreement

PICTURE = np.zeros((8, 8, 3), np.uint8)
TO_TEACHER = {"threshold": -1e300}


class Gate:
    """A model that waits until it may answer."""

    def __init__(self, model):
        self.model, self.name, self.invariant = model, model.name, False
        self.begun, self.open = threading.Event(), threading.Event()
        self.batches = []

    def preprocess(self, picture):
        return self.model.preprocess(picture)

    def __call__(self, inputs):
        self.batches.append(len(inputs))
        self.begun.set()
        assert self.open.wait(60)
        return self.model(inputs)


@pytest.fixture
def desk_of(exported_digits):
    """A function: settings -> a desk whose teacher, and student if `both`, wait at gates."""
    desks = []

    def build(both=False, **settings):
        desk = Desk(lambda: load_served(exported_digits, None, None, ()), ServeSettings(**settings), Meters())
        joint = desk.bench.served.live.joint
        joint.teacher = Gate(joint.teacher)
        if both:
            joint.student = Gate(joint.student)
        desks.append(desk)
        return desk, joint

    yield build
    for desk in desks:
        for gate in (desk.bench.served.live.joint.teacher, desk.bench.served.live.joint.student):
            getattr(gate, "open", threading.Event()).set()
        desk.close()


def ask(**rule):
    return Ask([PICTURE], Rule(**rule))


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


def test_a_full_queue_before_the_teacher_degrades_and_refuses_who_forces(desk_of):
    desk, joint = desk_of(teacher_queue=1)

    async def run():
        first = asyncio.ensure_future(desk.answer(ask(**TO_TEACHER)))
        await asyncio.to_thread(joint.teacher.begun.wait, 60)
        second = await desk.answer(ask(**TO_TEACHER))
        with pytest.raises(Fault) as refused:
            await desk.answer(ask(force="teacher"))
        joint.teacher.open.set()
        return await first, second, refused.value

    first, second, refused = asyncio.run(run())
    assert (first.answered_by, first.degraded) == (["teacher"], [""])
    assert (second.answered_by, second.degraded) == (["student"], ["busy"])
    assert refused.status == 503
    assert desk.inside == desk.room.pixels == 0


def test_a_deadline_gives_the_students_answer_and_says_so(desk_of):
    desk, joint = desk_of()

    async def run():
        late = await desk.answer(ask(**TO_TEACHER, max_latency_ms=400))
        with pytest.raises(Fault) as refused:
            await desk.answer(ask(force="teacher", max_latency_ms=400))
        joint.teacher.open.set()
        return late, refused.value

    late, refused = asyncio.run(run())
    assert (late.answered_by, late.degraded) == (["student"], ["deadline"])
    assert refused.status == 504


def test_a_full_house_is_refused_before_it_costs_anything_and_requests_meet_in_batches(desk_of):
    desk, joint = desk_of(both=True, queue_size=4, largest_batch=8)

    async def run():
        first = asyncio.ensure_future(desk.answer(ask(force="student")))
        await asyncio.to_thread(joint.student.begun.wait, 60)
        others = [asyncio.ensure_future(desk.answer(ask(force="student"))) for _ in range(3)]
        await until(lambda: desk.bench.student.waiting == 4)
        with pytest.raises(Fault) as refused:
            await desk.answer(ask())
        desk.bench.student.seconds_each = 10.0
        with pytest.raises(Fault) as hopeless:
            await desk.answer(ask(max_latency_ms=5000))
        joint.student.open.set()
        await asyncio.gather(first, *others)
        return refused.value, hopeless.value

    refused, hopeless = asyncio.run(run())
    assert refused.status == hopeless.status == 503
    assert hopeless.retry_after == pytest.approx(50)
    assert joint.student.batches == [1, 3]


def test_a_reload_swaps_the_pair_whole_and_a_damaged_one_changes_nothing(desk_of):
    desk, joint = desk_of()
    load, first = desk.load, desk.bench

    def damaged():
        raise InvalidInput("Expected a pair.")

    async def run():
        begun = asyncio.ensure_future(desk.answer(ask(**TO_TEACHER)))
        await asyncio.to_thread(joint.teacher.begun.wait, 60)
        desk.load = damaged
        with pytest.raises(InvalidInput):
            await desk.reload()
        assert desk.bench is first
        desk.load = load
        await desk.reload()
        after = await desk.answer(ask(**TO_TEACHER))
        joint.teacher.open.set()
        return await begun, after

    begun, after = asyncio.run(run())
    assert (begun.bench, after.bench) == (first, desk.bench)
    assert desk.bench is not first
    assert begun.answered_by == after.answered_by == ["teacher"]
    first.student._thread.join(60)
    assert not first.student._thread.is_alive()


def test_a_device_without_memory_costs_no_student_its_answer_and_is_no_fault_of_the_picture(desk_of):
    desk, _ = desk_of()

    def full(inputs):
        raise OutOfMemory("Expected a batch for which `cuda` has memory.")

    desk.bench.teacher.batcher.call = full
    late = asyncio.run(desk.answer(ask(**TO_TEACHER)))
    assert (late.answered_by, late.degraded) == (["student"], ["died"])
    for side in ("teacher", "student"):
        if side == "student":
            desk.bench.student.call = full
        with pytest.raises(Fault) as refused:
            asyncio.run(desk.answer(ask(force=side)))
        assert refused.value.status == 503


def test_a_picture_that_the_teacher_alone_refuses_has_the_students_answer(desk_of):
    desk, _ = desk_of()

    def refuse(inputs):
        raise InvalidInput("Expected fewer pixels.")

    desk.bench.teacher.batcher.call = refuse
    answer = asyncio.run(desk.answer(ask(**TO_TEACHER)))
    assert (answer.answered_by, answer.degraded) == (["student"], ["refused"])
    with pytest.raises(InvalidInput, match="fewer pixels"):
        asyncio.run(desk.answer(ask(force="teacher")))


def test_the_loop_answers_a_small_picture_itself_and_no_large_one_of_few_bytes(desk_of):
    desk, _ = desk_of()
    here, seen = desk.bench.student.answer_here, []
    Image.new("L", (3000, 3000)).save(content := BytesIO(), "PNG")
    desk.bench.student.answer_here = lambda inputs: seen.append(inputs.pixels) or here(inputs)
    for picture in (PICTURE, content.getvalue()):
        desk.bench.student.seconds_each = 1e-9
        with suppress(InvalidInput):  # this student takes one size alone
            asyncio.run(desk.answer(Ask([picture], Rule(force="student"))))
    assert seen == [64]


@pytest.mark.parametrize(("largest", "sizes"), [(8, [1, 2]), (1, [1])])
def test_both_models_have_answered_the_first_sizes_of_a_batch_before_any_request(
    exported_digits, largest, sizes
):
    def load():
        served = load_served(exported_digits, None, None, ())
        joint = served.live.joint
        joint.student, joint.teacher = Gate(joint.student), Gate(joint.teacher)
        for gate in (joint.student, joint.teacher):
            gate.open.set()
        return served

    desk = Desk(load, ServeSettings(largest_batch=largest), Meters())
    joint = desk.bench.served.live.joint
    desk.close()
    # the student has been asked for a picture of another size before, which it refused
    assert joint.student.batches[-len(sizes) :] == joint.teacher.batches[-len(sizes) :] == sizes


def test_a_reload_that_meets_a_defect_is_told_in_one_line_and_counted(desk_of, capsys):
    desk, _ = desk_of()

    def broken():
        raise RuntimeError("first\nsecond")

    desk.load = broken
    asyncio.run(reload(desk))
    assert capsys.readouterr().err.splitlines()[-1] == "Not reloaded: RuntimeError: first."
    assert 'ebjr_reloads_total{result="refused"} 1.0' in desk.meters.text().decode()


def test_a_defect_beside_the_traffic_and_a_pair_that_cannot_be_set_up_leave_no_thread(desk_of):
    desk, _ = desk_of()
    desk.settings, desk.bench.shadow = replace(desk.settings, shadow=1.0), Shadow(1.0, np.linspace(-1, 0, 50))
    desk.bench.teacher.answer = None  # any call is a defect

    async def run():
        await desk.answer(ask(force="student"))
        await asyncio.gather(*desk.shadows, return_exceptions=True)
        assert desk.bench.users == 0
        before = set(threading.enumerate())
        desk.settings = replace(desk.settings, policy="queue")  # which wants slo_ms
        with pytest.raises(ConfigError):
            await desk.reload()
        for thread in set(threading.enumerate()) - before:
            if "teacher" in thread.name:
                thread.join(60)
                assert not thread.is_alive()

    asyncio.run(run())


def test_one_bad_request_spoils_no_other_in_its_batch():
    gate, batches = threading.Event(), []

    def call(values):
        assert gate.wait(60)
        batches.append(list(values))
        if "bad" in values:
            raise InvalidInput("Expected another.")
        return [value.upper() for value in values]

    batcher = Batcher(call, 8, "test")
    futures = [batcher.submit(values) for values in (["a"], ["b", "c"], ["bad"], ["d"])]
    cancelled = batcher.submit(["e"])
    assert cancelled.cancel()
    gate.set()
    assert [futures[index].result(60).results for index in (0, 1, 3)] == [["A"], ["B", "C"], ["D"]]
    with pytest.raises(InvalidInput):
        futures[2].result(60)
    assert batcher.answer_here(["f"]).results == ["F"]  # in this thread
    with pytest.raises(InvalidInput):
        batcher.answer_here(["bad"])
    assert (batcher.waiting, sum(count for count, _ in batcher.sizes.counts().values())) == (0, 3)
    batcher.close()
    assert not any("e" in batch for batch in batches)


def test_batches_that_end_in_two_threads_at_once_are_both_counted():
    meeting = threading.Barrier(2)

    class Met(dict):
        def get(self, *arguments):
            value = super().get(*arguments)
            with suppress(threading.BrokenBarrierError):
                meeting.wait(0.2)  # for another thread that has looked too, if one can
            return value

    sizes = Sizes()
    sizes._counts = Met()
    threads = [threading.Thread(target=sizes.add, args=(1, 0.5)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sizes.counts() == {1: (2, 1.0)}


def test_a_deadline_counts_the_wait_for_readers_too(desk_of, monkeypatch):
    desk, joint = desk_of(readers=1)
    joint.teacher.open.set()
    over = threading.Event()
    desk.pool.submit(over.wait, 60)
    answer = asyncio.run(desk.answer(ask(**TO_TEACHER, max_latency_ms=200)))
    assert (answer.answered_by, answer.degraded) == (["student"], ["deadline"])
    monkeypatch.setattr("ebjr_det.serving.desk.SMALL", 0)
    with pytest.raises(Fault) as late:
        asyncio.run(desk.answer(ask(force="student", max_latency_ms=50)))
    assert late.value.status == 504
    over.set()


def test_the_law_share_holds_its_target_after_a_shift_of_one_standard_deviation():
    generator = np.random.default_rng(0)
    reference = generator.normal(size=2000)
    law = build_law("share", float(np.quantile(reference, 0.7)), reference, None)
    shares = []
    for shift in (0.0, 1.0):
        deferred = []
        for score in generator.normal(shift, 1, 1500):
            deferred.append(score > law.threshold(0.0))
            law.observe(int(deferred[-1]), 1)
        shares.append(np.mean(deferred[500:]))
    assert np.abs(np.array(shares) - 0.3).max() < 0.03


def test_the_law_queue_defers_less_while_the_teacher_is_busy_and_never_more_than_calibrated():
    reference = np.arange(100.0)
    law = build_law("queue", 69.5, reference, 200)
    above = [(reference > law.threshold(wait)).mean() for wait in (0.0, 0.1, 0.15, 0.2, 5.0)]
    assert above == pytest.approx([0.3, 0.3, 0.15, 0.0, 0.0])


@pytest.mark.parametrize(
    ("name", "reference", "slo"), [("other", None, None), ("share", None, None), ("queue", np.ones(3), None)]
)
def test_a_law_without_what_it_needs_is_refused(name, reference, slo):
    with pytest.raises(ConfigError, match="Expected"):
        build_law(name, 0.0, reference, slo)


def test_an_idle_teacher_sees_kept_pictures_too_and_agreement_is_counted_by_decile(desk_of):
    desk, joint = desk_of()
    joint.teacher.open.set()
    desk.settings, desk.bench.shadow = replace(desk.settings, shadow=1.0), Shadow(1.0, np.linspace(-1, 0, 50))

    async def run():
        for _ in range(3):
            answer = await desk.answer(ask(force="student"))
            await asyncio.gather(*desk.shadows)
        await desk.answer(ask(force="teacher"))
        assert not desk.shadows, "the teacher has seen it"
        return answer

    answer = asyncio.run(run())
    assert answer.answered_by == ["student"]
    decile = int(np.searchsorted(desk.bench.shadow.edges, answer.scores[0]))
    lines = desk.meters.text().decode().splitlines()
    assert f'ebjr_shadow_pictures{{decile="{decile}"}} 3.0' in lines
    assert desk.bench.shadow.agreement(decile) in (0, 1)
    assert np.isnan(desk.bench.shadow.agreement((decile + 1) % 10))
    assert desk.bench.users == 0


def test_boxes_agree_by_how_many_have_a_partner():
    def boxes(*rows):
        corners = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
        scores, labels = np.array([row[4] for row in rows]), np.array([row[5] for row in rows], int)
        return Detections(corners, scores.astype(np.float64), labels)

    near, far = (0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.9, 1)
    other, faint = (0, 0, 10, 10, 0.9, 2), (50, 50, 60, 60, 0.1, 1)
    shifted = (1, 1, 11, 11, 0.9, 1)
    cases = [
        ((), (), 1), ((near,), (), 0), ((near,), (shifted,), 1), ((near,), (other,), 0),
        ((near,), (far,), 0), ((near, faint), (near,), 1), ((near, far), (shifted,), 2 / 3),
        ((near, near), (near,), 2 / 3),
    ]  # fmt: skip
    for first, second, expected in cases:
        assert agreement(boxes(*first), boxes(*second)) == pytest.approx(expected)


@pytest.mark.parametrize("share", [1.5, 0.5])
def test_a_shadow_needs_a_share_and_reference_scores(share):
    with pytest.raises(ConfigError, match="Expected"):
        Shadow(share, None)


@pytest.mark.parametrize(("shift", "alarm"), [(0.0, False), (1.0, True)])
def test_the_drift_alarm_is_raised_for_other_pictures_alone(shift, alarm):
    generator = np.random.default_rng(1)
    watch, alarms = Watch(generator.normal(size=900)), []
    for score in generator.normal(shift, 1, 20_000 if not alarm else 250):
        watch.add(np.array([score]))
        alarms.append(watch.alarm)
    assert any(alarms) == alarm


@given(body=st.binary(max_size=300), length=st.none() | st.integers(-5, 400))
def test_any_bytes_are_a_request_or_refused(body, length):
    with suppress(InvalidInput):
        assert read_request(body, length).pictures


@given(st.lists(st.floats(width=32), max_size=5), st.lists(st.text(max_size=5), max_size=3))
def test_numbers_and_texts_survive_both_forms(numbers, texts):
    values = {"x": np.array(numbers, np.float32), "t": texts}
    for binary in (False, True):
        body, length = write_response({}, values, InferRequest([], binary=binary))
        assert (length is not None) == binary
        if not binary:
            data = json.loads(body)["outputs"]
            read = np.array([np.nan if v is None else v for v in data[0]["data"]], np.float32)
            finite = np.isfinite(values["x"])
            assert np.array_equal(read[finite], values["x"][finite])
            assert data[1]["data"] == texts
        else:
            assert values["x"].tobytes() in body
