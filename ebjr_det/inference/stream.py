"""The live pair on a stream: pictures loaded ahead in threads, deferred ones gathered for the teacher.

Convention: an index counts the items from 0; student batches are cut at multiples of the batch size, so the
same pictures meet in a batch whatever else is set. Every decision is `JointModel`'s. Knows nothing about what
pictures and predictions are; threads must be allowed to load and preprocess at the same time.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from time import monotonic
from typing import Any, Generic

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import Opaque
from ebjr_det.inference.stream_plan import Answer, Image, Item, Plan
from ebjr_det.inference.threads import WorkerPool

LISTENING = 0.5
"""Seconds of a wait at most: a Ctrl-C that comes just before one is heard by Python only after it."""
_END = object()


@dataclass(eq=False)
class _Picture:
    """One item of the stream on its way; what is no longer needed is dropped.

    Attributes:
        item: what to load, or `_END` behind the last one.
        loaded: done when `image` and `student_input`, or `fault`, are there.
        due: when the teacher has to be called for it at the latest, by the clock `monotonic`.
        settled: there is nothing left to do but to hand out the answer, or nothing where it is `left_out`.
    """

    index: int
    item: Any = None
    image: Opaque = None
    student_input: Opaque = None
    teacher_input: "Future[Opaque] | None" = None
    fault: InvalidInput | None = None
    prediction: Opaque = None
    score: float = 0.0
    deferred: bool = False
    in_front: bool = False
    due: float = math.inf
    settled: bool = False
    left_out: bool = False
    loaded: "Future[None]" = field(default_factory=Future)

    def answer(self) -> Answer[Any, Opaque]:
        return Answer(self.item, self.image, self.prediction, self.score, self.deferred, self.in_front)


@dataclass(eq=False)
class StreamState(Generic[Item, Image]):
    """Pictures by where they are: before the student, before the teacher, at the teacher.

    `held` has all of these and those whose answer waits for one before it, in the stream's order.
    """

    joint: JointModel
    items: Iterator[Item]
    load: Callable[[Item], Image]
    plan: Plan
    on_fault: Callable[[Item, InvalidInput], None]
    reader: WorkerPool
    workers: WorkerPool
    teacher: WorkerPool
    failure: "Future[None]"

    def __post_init__(self) -> None:
        invariant = bool(getattr(self.joint.teacher, "invariant", False))
        self.gathers = invariant if self.plan.regroup is None else self.plan.regroup
        self.held: deque[_Picture] = deque()
        self.before_student: deque[_Picture] = deque()
        self.before_teacher: deque[_Picture] = deque()
        self.at_teacher: deque[tuple[list[_Picture], Future[Sequence[Opaque]]]] = deque()
        self.pulled = self.judged = 0
        self.exhausted = self.ended = False  # the source has no further item; the student has come to its end

    def run(self) -> Iterator[Answer[Item, Image]]:
        """Take one step at a time, the most urgent one that is possible, until every answer is handed out."""
        size = self.plan.batch_size
        while True:
            self._collect()
            if self.held and self.held[0].settled:
                # An answer goes out before anything is begun: whoever reads the stream waits for it.
                if self.held[0].left_out:
                    self.held.popleft()
                else:  # no name here: while the caller works on an answer, nothing else holds its picture
                    yield self.held.popleft().answer()
            elif self._is_overdue():
                # Before the student goes on: its next batch would come on top of the wait.
                self._start_teacher(len(self.before_teacher))
            elif self._has_room():
                # Before the student's batch, so that workers load the next one while it runs.
                self._pull()
            elif (unloaded := self._unloaded()) is None and len(self.before_student) >= size:
                # Batches are always whole: behind the last item `_pull` adds ends, which fill the last one.
                self._judge([self.before_student.popleft() for _ in range(size)])
            elif self.held:
                # All that is held is with a worker or the teacher, or waits until it is due.
                self._wait(unloaded)
            else:
                return

    def _collect(self) -> None:
        """Raise what a thread raised, and take what the teacher has answered; batches end in their order."""
        if self.failure.done():
            self.failure.result()
        while self.at_teacher and self.at_teacher[0][1].done():
            batch, future = self.at_teacher.popleft()
            for picture, prediction in zip(batch, future.result(), strict=True):
                picture.prediction, picture.settled = prediction, True

    def _unloaded(self) -> "Future[None] | None":
        """The first picture of the student's next batch that is not there yet; a look at each of them."""
        batch = islice(self.before_student, self.plan.batch_size)
        return next((picture.loaded for picture in batch if not picture.loaded.done()), None)

    def _has_room(self) -> bool:
        room = len(self.before_student) < self.plan.batch_size + self.plan.ahead
        return room and not self.ended and len(self.held) < self.plan.window

    def _pull(self) -> None:
        picture = _Picture(self.pulled)
        self.pulled += 1
        self.held.append(picture)
        self.before_student.append(picture)
        self.reader.submit(self._read, picture)

    def _read(self, picture: _Picture) -> None:
        """Runs in the one thread that pulls the source, so that items keep their order."""
        picture.item = _END if self.exhausted else next(self.items, _END)
        if picture.item is _END:
            self.exhausted = True
            picture.loaded.set_result(None)
        else:
            self.workers.submit(self._load, picture, future=picture.loaded)

    def _load(self, picture: _Picture) -> None:
        """Runs in a worker."""
        try:
            picture.image = self.load(picture.item)
        except InvalidInput as error:
            picture.fault = error
        else:
            picture.student_input = self.joint.preprocess(picture.image)

    def _judge(self, batch: Sequence[_Picture]) -> None:
        """The student's answers to a batch, without the pictures that could not be loaded and the ends."""
        self.judged += len(batch)
        for picture in batch:
            picture.loaded.result()  # raises what a worker raised since `_collect`
            if picture.item is _END:
                self.ended = picture.settled = picture.left_out = True
            elif picture.fault is not None:
                fault, picture.fault = picture.fault, None
                picture.settled = picture.left_out = True
                self.on_fault(picture.item, fault)
        if readable := [picture for picture in batch if not picture.left_out]:
            self._decide(readable)
        if self.ended:  # so is everything behind
            for picture in self.before_student:
                picture.settled = picture.left_out = True
            self.before_student.clear()

    def _decide(self, batch: Sequence[_Picture]) -> None:
        inputs = [picture.student_input for picture in batch]
        for picture in batch:
            picture.student_input = None
        output, decision = self.joint.judge(inputs)
        patience = self.plan.patience_ms
        due = math.inf if patience is None else monotonic() + patience / 1000
        for index, picture in enumerate(batch):
            picture.score, picture.deferred = float(decision.scores[index]), bool(decision.defer[index])
            picture.in_front = decision.in_front is not None and bool(decision.in_front[index])
            if picture.deferred:
                # Urgent: the teacher waits for this input, but nobody yet for the pictures loaded ahead.
                ready = partial(self.joint.teacher_input, score=picture.score)
                picture.teacher_input = self.workers.submit(ready, picture.image, urgent=True)
                picture.due = due
                self.before_teacher.append(picture)
            else:
                picture.prediction, picture.settled = output.predictions[index], True
        # Without gathering, the teacher sees the deferred pictures of this batch as `JointModel` would.
        size = self.plan.teacher_batch if self.gathers else len(self.before_teacher)
        while self.before_teacher and len(self.before_teacher) >= size:
            self._start_teacher(size)

    def _is_overdue(self) -> bool:
        """The oldest deferred picture must not wait for others: none come, or answers or it wait too long."""
        if not self.before_teacher:
            return False
        oldest = self.before_teacher[0]
        return self.ended or self.judged - oldest.index > self.plan.span or monotonic() >= oldest.due

    def _start_teacher(self, size: int) -> None:
        batch = [self.before_teacher.popleft() for _ in range(size)]
        inputs = [picture.teacher_input for picture in batch]
        for picture in batch:
            picture.teacher_input = None
        self.at_teacher.append((batch, self.teacher.submit(self._teach, inputs)))

    def _teach(self, inputs: "Sequence[Future[Opaque] | None]") -> Sequence[Opaque]:
        """Runs where the teacher works."""
        return self.joint.teach([future.result() for future in inputs if future is not None])

    def _wait(self, unloaded: "Future[None] | None") -> None:
        """Until a picture is loaded, the teacher has answered, something failed or a picture is due."""
        remaining = self.before_teacher[0].due - monotonic() if self.before_teacher else math.inf
        futures: set[Future[Any]] = {self.failure, *(future for _, future in islice(self.at_teacher, 1))}
        if unloaded is not None:
            futures.add(unloaded)
        wait(futures, min(max(remaining, 0.0), LISTENING), FIRST_COMPLETED)


def _refuse(item: object, error: InvalidInput) -> None:
    """A picture that cannot be loaded is an error."""
    raise error


def answers(
    joint: JointModel,
    items: Iterable[Item],
    load: Callable[[Item], Image],
    plan: Plan,
    on_fault: Callable[[Item, InvalidInput], None] = _refuse,
) -> Generator[Answer[Item, Image], None, None]:
    """The answers of `joint` to a stream of pictures, in its order.

    Answers, decisions and scores are, bit for bit, those of `JointModel` called with one batch of
    `plan.batch_size` pictures after the other. Each picture is loaded once and preprocessed once by the
    student and, where it is deferred, once by the teacher. At most `plan.window` pictures are held: a picture
    counts from before it is asked for until its answer is handed out.

    A deferred picture goes to the teacher when the teacher's batch is full, when it has waited for
    `patience_ms`, when the student is `plan.span` pictures on, or when the stream ends. Its patience is
    looked at whenever the stream is asked for an answer and no model works in the calling thread, so that a
    batch of the student may come on top. With workers the wait for a slow source ends when a picture is due;
    without, it is looked at between two pictures. Pictures wait for their batch of the student without a
    bound: for a camera, let `batch_size` be 1.

    Whatever is raised, in any thread, is raised here at once, also when earlier answers are still to come.
    Then, at the end, and when the iterator is closed, all threads end; calls that have begun are waited for,
    but not `items`, whose thread ends when it gives its next item.

    Args:
        items: what `load` takes; pulled by one thread, which is not the caller's where there are workers.
        load: item -> picture. Raises InvalidInput where it cannot be loaded.
        on_fault: called with the item and the error, in the stream's order and the calling thread; the
            picture is then left out of its batch. By default the error is raised.
    """
    failure: Future[None] = Future()
    with (
        WorkerPool(int(plan.overlap), failure) as teacher,
        WorkerPool(plan.workers, failure) as workers,
        WorkerPool(min(plan.workers, 1), failure, waits=False) as reader,
    ):
        state = StreamState(joint, iter(items), load, plan, on_fault, reader, workers, teacher, failure)
        yield from state.run()
