"""The stream: which thread does what, how deferred pictures are gathered, and that nothing hangs."""

import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import Logits, Output
from ebjr_det.inference.stream import StreamState, answers
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.inference.threads import WorkerPool

GUARD = 30.0
"""Seconds after which a wait that should have ended is a failure; no test needs them."""
ALL_PLANS = [
    {"workers": workers, "overlap": overlap, "regroup": regroup}
    for workers in (0, 1, 3)
    for overlap in (False, True)
    for regroup in (False, True)
]


class Model:
    """Answers (name, item) and one logit, the item; tells what it was called with and in which threads."""

    def __init__(self, name, invariant=True, before=lambda lot: None):
        self.name, self.invariant, self.before = name, invariant, before
        self.lots, self.threads, self.preprocessed_in = [], set(), set()

    def preprocess(self, image):
        self.preprocessed_in.add(threading.get_ident())
        return np.array([image])

    def __call__(self, inputs):
        self.threads.add(threading.get_ident())
        lot = [int(one[0]) for one in inputs]
        self.before(lot)
        self.lots.append(lot)
        return Output([(self.name, one) for one in lot], Logits.one_row(np.array(inputs, np.float64)))


def rest_of_ten(output):
    """Items 7, 8, 9, 17, ... are deferred at a threshold of 6.5."""
    return output.logits.values[:, 0, 0] % 10


def pair(student=None, teacher=None, score=rest_of_ten):
    return JointModel(student or Model("student"), teacher or Model("teacher"), score, 6.5)


def stream(joint, items, load=lambda item: item, on_fault=None, **plan):
    faults = {} if on_fault is None else {"on_fault": on_fault}
    return answers(joint, items, load, Plan(**plan), **faults)


def waits(event):
    assert event.wait(GUARD), "nobody came"


@contextmanager
def no_thread_left():
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(GUARD)
        assert not thread.is_alive()


def deferred(item):
    return item % 10 > 6.5


# --- What comes out ---


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_answers_come_in_order_with_picture_score_and_who(plan):
    with no_thread_left():
        got = list(stream(pair(), range(33), lambda item: item + 100, batch_size=4, teacher_batch=2, **plan))
    assert got == [
        Answer(i, i + 100, ("teacher" if deferred(i) else "student", i + 100), i % 10, deferred(i))
        for i in range(33)
    ]


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_no_items_no_answers_and_no_call(plan):
    joint = pair()
    assert list(stream(joint, [], **plan)) == []
    assert joint.student.lots == joint.teacher.lots == []


def refusing(broken, item):
    if item in broken:
        raise InvalidInput(f"Expected a readable picture, got `{item}`.")
    return item


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_pictures_that_cannot_be_loaded_are_told_in_order_and_missing_from_their_batch(plan):
    joint, told = pair(), []

    def on_fault(item, error):
        assert threading.current_thread() is threading.main_thread()
        told.append((item, str(error)))

    broken = {0, 5, 8, 9, 10, 11, 21}
    got = list(stream(joint, range(22), partial(refusing, broken), on_fault, batch_size=4, **plan))
    assert [answer.item for answer in got] == [item for item in range(22) if item not in broken]
    assert joint.student.lots == [[1, 2, 3], [4, 6, 7], [12, 13, 14, 15], [16, 17, 18, 19], [20]]
    assert told == [(item, f"Expected a readable picture, got `{item}`.") for item in sorted(broken)]


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_a_picture_that_cannot_be_loaded_is_an_error_by_default(plan):
    with no_thread_left(), pytest.raises(InvalidInput, match="got `5`"):
        list(stream(pair(), range(9), partial(refusing, {5}), **plan))


def test_a_picture_may_be_none():
    model = Model("student")
    model.preprocess = lambda image: np.array([1])
    got = list(stream(pair(model), range(3), lambda item: None, workers=0))
    assert [answer.item for answer in got] == [0, 1, 2]


# --- What the teacher sees ---


def lots(items, invariant=True, **plan):
    teacher = Model("teacher", invariant)
    list(stream(pair(teacher=teacher), items, **plan))
    return teacher.lots


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
class TestLots:
    def test_deferred_pictures_fill_the_teachers_batch_over_batches_of_the_student(self, workers, overlap):
        got = lots(range(30), batch_size=5, teacher_batch=4, workers=workers, overlap=overlap)
        assert got == [[7, 8, 9, 17], [18, 19, 27, 28], [29]]

    def test_a_batch_of_the_student_may_fill_several(self, workers, overlap):
        got = lots(range(7, 10), batch_size=3, teacher_batch=1, workers=workers, overlap=overlap)
        assert got == [[7], [8], [9]]

    @pytest.mark.parametrize("setting", [{"invariant": False}, {"invariant": True, "regroup": False}])
    def test_where_bits_could_change_it_sees_what_the_plain_pair_shows_it(self, setting, workers, overlap):
        got = lots(range(30), batch_size=5, teacher_batch=2, workers=workers, overlap=overlap, **setting)
        assert got == [[7, 8, 9], [17, 18, 19], [27, 28, 29]]

    def test_regroup_gathers_whatever_the_teacher_says(self, workers, overlap):
        got = lots(
            range(30), False, batch_size=5, teacher_batch=4, workers=workers, overlap=overlap, regroup=True
        )
        assert got == [[7, 8, 9, 17], [18, 19, 27, 28], [29]]

    def test_a_teacher_that_says_nothing_is_not_gathered_for(self, workers, overlap):
        teacher = Model("teacher")
        del teacher.invariant
        list(stream(pair(teacher=teacher), range(20), batch_size=10, workers=workers, overlap=overlap))
        assert teacher.lots == [[7, 8, 9], [17, 18, 19]]

    def test_a_lone_deferred_picture_goes_when_the_span_is_full(self, workers, overlap):
        plan = Plan(batch_size=2, teacher_batch=3, workers=workers, overlap=overlap)
        seen = []
        teacher = Model("teacher", before=lambda lot: seen.append(len(joint.student.lots)))
        joint = pair(teacher=teacher)
        list(answers(joint, [7] + [0] * 99, lambda item: item, plan))
        assert teacher.lots == [[7]]
        assert plan.span == 12
        if not overlap:
            assert seen == [7]  # the student is 14 places on, the first multiple of 2 above the span

    def test_no_patience_at_all_sends_what_a_batch_leaves_at_once(self, workers, overlap):
        got = lots(
            range(20), batch_size=10, teacher_batch=2, workers=workers, overlap=overlap, patience_ms=0.0
        )
        assert got == [[7, 8], [9], [17, 18], [19]]


# --- Which thread does what ---


def test_without_workers_all_is_done_by_the_caller():
    student, teacher, loaded_in = Model("student"), Model("teacher"), set()

    def load(item):
        loaded_in.add(threading.get_ident())
        return item

    before = threading.active_count()
    for _ in stream(pair(student, teacher), range(20), load, workers=0):
        assert threading.active_count() == before
    mine = {threading.get_ident()}
    assert loaded_in == student.preprocessed_in == teacher.preprocessed_in == mine
    assert student.threads == teacher.threads == mine


@pytest.mark.parametrize("overlap", [False, True])
def test_workers_load_and_preprocess_and_the_caller_runs_the_student(overlap):
    student, teacher, loaded_in = Model("student"), Model("teacher"), set()

    def load(item):
        loaded_in.add(threading.get_ident())
        return item

    list(stream(pair(student, teacher), range(20), load, workers=2, overlap=overlap))
    mine = {threading.get_ident()}
    assert loaded_in
    assert not (loaded_in | student.preprocessed_in | teacher.preprocessed_in) & mine
    assert student.threads == mine
    assert (teacher.threads == mine) != overlap


@pytest.mark.parametrize("workers", [0, 2])
def test_with_overlap_the_student_goes_on_while_the_teacher_works(workers):
    further = threading.Event()

    def before(lot):
        if lot == [0]:
            further.set()

    student, teacher = Model("student", before=before), Model("teacher", before=lambda lot: waits(further))
    got = stream(pair(student, teacher), [7, 0], batch_size=1, teacher_batch=1, workers=workers, overlap=True)
    assert [answer.prediction for answer in got] == [("teacher", 7), ("student", 0)]


def test_pictures_are_loaded_ahead_of_the_student():
    ahead = threading.Event()

    def load(item):
        if item == 3:
            ahead.set()
        return item

    student = Model("student", before=lambda lot: waits(ahead))
    assert len(list(stream(pair(student), range(4), load, batch_size=2, workers=1))) == 4


def test_what_is_urgent_goes_first():
    go, order = threading.Event(), []
    with WorkerPool(1, Future()) as pool:
        pool.submit(waits, go)
        usual = pool.submit(order.append, "usual")
        pool.submit(order.append, "urgent", urgent=True)
        go.set()
        usual.result(GUARD)
    assert order == ["urgent", "usual"]


def test_what_the_teacher_waits_for_goes_before_what_is_read_ahead():
    decided, order = threading.Event(), []

    def source():
        yield from (7, 0, 1)
        decided.set()  # room for a fourth is there when the first is judged
        yield 2

    def load(item):
        if item == 0:
            waits(decided)
        order.append(item)
        return item

    def enlarge(image):
        order.append("teacher's")
        return np.array([image])

    teacher = Model("teacher")
    teacher.preprocess = enlarge
    plan = {"batch_size": 1, "teacher_batch": 1, "workers": 1, "overlap": True}
    list(stream(pair(teacher=teacher), source(), load, **plan))
    assert order == [7, 0, "teacher's", 1, 2]


def test_when_a_call_is_over_its_pool_holds_nothing_of_it():
    class Thing:
        pass

    go, held = threading.Event(), []
    with WorkerPool(1, Future()) as pool:
        pool.submit(waits, go)
        thing = Thing()
        seen = weakref.ref(thing)
        done = pool.submit(lambda one: None, thing)
        del thing
        done.add_done_callback(lambda future: held.append(seen()))
        go.set()
        done.result(GUARD)
    assert held == [None]


def test_a_pool_waits_for_what_has_begun_and_cancels_the_rest():
    begun, go = threading.Event(), threading.Event()
    with WorkerPool(1, Future()) as pool:
        first = pool.submit(lambda event: begun.set() or waits(event), go)
        second = pool.submit(waits, go)
        waits(begun)
        threading.Timer(0.05, go.set).start()
    assert first.done()
    assert second.cancelled()
    assert not any(thread.is_alive() for thread in pool.threads)


def test_a_pool_that_does_not_wait_leaves_a_call_to_itself():
    begun, go = threading.Event(), threading.Event()
    with no_thread_left():
        with WorkerPool(1, Future(), waits=False) as pool:
            first = pool.submit(lambda event: begun.set() or waits(event), go)
            waits(begun)
        assert not first.done()
        go.set()
    with WorkerPool(1, Future(), waits=False) as idle:
        idle.submit(str, 1).result(GUARD)
        idle.submit(str, 2).result(GUARD)
    idle.threads[0].join(GUARD)
    assert not idle.threads[0].is_alive()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_students_inputs_are_released_after_its_batch(workers):
    class Input:
        def __init__(self, item):
            self.item = item

    inputs = {}

    class Forgetting(Model):
        def preprocess(self, image):
            made = Input(image)
            inputs[image] = weakref.ref(made)
            return made

        def __call__(self, inputs):
            return super().__call__([[one.item] for one in inputs])

    teacher = Model("teacher", before=lambda lot: alive.extend(inputs[item]() for item in lot))
    alive = []
    list(stream(pair(Forgetting("student"), teacher), range(20), batch_size=5, workers=workers))
    assert alive == [None] * 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_has_ended_is_not_asked_again(workers):
    class Resuming:
        def __init__(self):
            self.numbers = [1, 2, None, 3, 4, 5, 6]

        def __iter__(self):
            return self

        def __next__(self):
            number = self.numbers.pop(0)
            if number is None:
                raise StopIteration
            return number

    got = stream(pair(), Resuming(), batch_size=2, workers=workers)
    assert [answer.item for answer in got] == [1, 2]


# --- A slow source ---


@pytest.mark.parametrize("overlap", [False, True])
def test_a_deferred_picture_does_not_wait_longer_than_its_patience_for_the_next_one(overlap):
    answered = threading.Event()

    def slow():
        yield 7
        waits(answered)
        yield 0

    got = []
    plan = {"batch_size": 1, "teacher_batch": 4, "workers": 1, "patience_ms": 1.0, "overlap": overlap}
    for answer in stream(pair(), slow(), **plan):
        got.append(answer.prediction)
        answered.set()
    assert got == [("teacher", 7), ("student", 0)]


@pytest.mark.parametrize("overlap", [False, True])
def test_what_is_answered_does_not_wait_for_the_source(overlap):
    answered = threading.Event()

    def slow():
        yield 1
        yield 7
        waits(answered)
        yield 2

    plan = {"batch_size": 2, "teacher_batch": 1, "workers": 1, "overlap": overlap}
    got = []
    for answer in stream(pair(), slow(), **plan):
        got.append(answer.prediction)
        if len(got) == 2:
            answered.set()
    assert got == [("student", 1), ("teacher", 7), ("student", 2)]


def test_without_patience_it_waits_for_the_next_ones():
    teacher = Model("teacher")

    def slow():
        for item in (7, 0, 8):
            assert teacher.lots == []
            yield item

    list(stream(pair(teacher=teacher), slow(), batch_size=1, teacher_batch=2, workers=0))
    assert teacher.lots == [[7, 8]]


# --- What is raised, interrupted or closed ---


class PowerCutError(BaseException):
    """No ordinary exception, as Ctrl-C is none."""


def cutting(function, error, seen=np.ravel):
    """The function, which raises when it meets item 18."""

    def cut(argument):
        if 18 in seen(argument):
            raise error
        return function(argument)

    return cut


PLACES = ["source", "load", "shrink", "student", "score", "enlarge", "teacher"]
KINDS = [RuntimeError, InvalidInput, PowerCutError]
CUTS = [(place, kind) for place in PLACES for kind in KINDS if (place, kind) != ("load", InvalidInput)]


@pytest.mark.parametrize(("place", "kind"), CUTS)
@pytest.mark.parametrize("plan", ALL_PLANS)
def test_what_is_raised_anywhere_is_raised_here_as_itself(plan, place, kind):
    error = kind("power cut")
    student, teacher = Model("student"), Model("teacher")
    items, load, score = range(60), lambda item: item, rest_of_ten
    if place == "source":
        items = map(cutting(load, error), items)
    elif place == "load":
        load = cutting(load, error)
    elif place == "score":
        score = cutting(score, error, lambda output: output.logits.values)
    elif place in ("shrink", "enlarge"):
        model = student if place == "shrink" else teacher
        model.preprocess = cutting(model.preprocess, error)
    else:
        model = student if place == "student" else teacher
        model.before = cutting(model.before, error)
    came = []
    with no_thread_left(), pytest.raises(kind) as caught:
        came.extend(stream(pair(student, teacher, score), items, load, batch_size=3, **plan))
    assert caught.value is error
    assert [answer.item for answer in came] == list(range(len(came)))
    assert len(came) <= 18


def test_a_picture_that_failed_between_two_looks_at_the_threads_is_raised_as_itself(monkeypatch):
    """As if the worker failed after the stream has looked: the student must not see what is not there."""
    error = RuntimeError("power cut")
    monkeypatch.setattr(StreamState, "_collect", lambda state: None)
    with no_thread_left(), pytest.raises(RuntimeError) as caught:
        list(stream(pair(), range(60), cutting(lambda item: item, error), batch_size=3, workers=2))
    assert caught.value is error


@pytest.mark.parametrize("where", ["load", "teacher"])
def test_it_is_raised_at_once_though_the_source_waits(where):
    go = threading.Event()

    def slow():
        yield 7
        waits(go)

    def fail(argument):
        raise RuntimeError("power cut")

    teacher = Model("teacher", before=fail if where == "teacher" else lambda lot: None)
    load = fail if where == "load" else lambda item: item
    plan = {"batch_size": 1, "teacher_batch": 1, "workers": 1, "overlap": True}
    with no_thread_left():
        with pytest.raises(RuntimeError, match="power cut"):
            list(stream(pair(teacher=teacher), slow(), load, **plan))
        go.set()


@pytest.mark.parametrize("plan", ALL_PLANS)
def test_closing_early_ends_all_threads(plan):
    with no_thread_left():
        got = stream(pair(), range(10**9), batch_size=2, **plan)
        assert next(got).item == 0
        got.close()
    with no_thread_left():
        for answer in stream(pair(), range(10**9), batch_size=2, **plan):
            if answer.item == 20:
                break
        del answer


def test_closing_does_not_wait_for_the_source():
    go = threading.Event()

    def slow():
        yield 1
        waits(go)

    with no_thread_left():
        got = stream(pair(), slow(), batch_size=1, workers=2, overlap=True)
        next(got)
        got.close()
        go.set()


def test_a_teacher_that_waits_for_its_inputs_is_let_go():
    begun, go = threading.Event(), threading.Event()
    teacher = Model("teacher")

    def enlarge(image):
        begun.set()
        waits(go)
        return np.array([image])

    def slow():
        yield 7
        yield 8
        waits(begun)
        go_later.start()
        raise RuntimeError("power cut")

    teacher.preprocess = enlarge
    go_later = threading.Timer(0.05, go.set)
    with no_thread_left(), pytest.raises(RuntimeError, match="power cut"):
        list(stream(pair(teacher=teacher), slow(), batch_size=2, teacher_batch=2, workers=1, overlap=True))
    assert teacher.lots == []


@pytest.mark.parametrize("overlap", [False, True])
def test_ctrl_c_ends_the_wait_for_the_source(overlap):
    go, main = threading.Event(), threading.main_thread()

    def interrupted():
        yield 1
        signal.pthread_kill(main.ident, signal.SIGINT)
        waits(go)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with no_thread_left():
            with pytest.raises(KeyboardInterrupt):
                list(stream(pair(), interrupted(), batch_size=2, workers=2, overlap=overlap))
            go.set()
    finally:
        signal.signal(signal.SIGINT, before)


# --- The plan ---


@pytest.mark.parametrize(("name", "value"), [
    ("batch_size", 0), ("teacher_batch", 0), ("workers", -1), ("patience_ms", -1.0),
    ("patience_ms", float("nan")), ("patience_ms", float("inf")),
])  # fmt: skip
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=f"`{name}` to be"):
        Plan(**{name: value})


def test_a_very_long_patience_is_waited_for_like_any_other():
    assert len(list(stream(pair(), range(20), batch_size=1, workers=1, patience_ms=1e300))) == 20


def test_the_stream_and_predict_need_no_torch():
    code = (
        "import sys, ebjr_det.inference.stream; from ebjr_det import predict\n"
        "print(sorted({'torch', 'torchvision'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
