"""The live pair on a stream: pictures loaded ahead in threads, deferred ones gathered for the teacher.

Convention: a place counts the items from 0; student batches are cut at multiples of the batch size, so the
same pictures meet in a batch whatever else is set. Every decision is `JointModel`'s. Knows nothing about what
pictures and predictions are; threads must be allowed to load and preprocess at the same time.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from itertools import islice
from threading import TIMEOUT_MAX
from time import monotonic
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.inference.threads import Crew

_END = object()


@dataclass(eq=False)
class _Picture:
    """One place of the stream; what is no longer needed is dropped."""

    place: int
    item: Any = None
    image: Any = None
    student_input: Any = None
    teacher_input: "Future[Any] | None" = None
    fault: InvalidInput | None = None
    prediction: Any = None
    score: float = 0.0
    deferred: bool = False
    due: float = math.inf
    settled: bool = False
    left_out: bool = False
    loaded: "Future[Any]" = field(default_factory=Future)


@dataclass(eq=False)
class Line:
    """Pictures by where they are: before the student, before the teacher, at the teacher.

    `held` has all of these and those whose answer waits for one before it, in the stream's order.
    """

    joint: JointModel
    items: Iterator[Any]
    load: Callable[[Any], Any]
    plan: Plan
    on_fault: Callable[[Any, InvalidInput], None]
    source: "Crew"
    workers: "Crew"
    teacher: "Crew"
    failed: "Future[Any]"

    def __post_init__(self) -> None:
        regroup, kind = self.plan.regroup, self.joint.teacher
        self.gathers = bool(getattr(kind, "invariant", False)) if regroup is None else regroup
        self.held: deque[_Picture] = deque()
        self.unjudged: deque[_Picture] = deque()
        self.gathered: deque[_Picture] = deque()
        self.taught: deque[tuple[list[_Picture], Future[Any]]] = deque()
        self.asked = self.judged = 0
        self.dry = self.ended = False

    def run(self) -> Iterator[Answer]:
        """One step at a time, the most urgent first."""
        size = self.plan.batch_size
        while True:
            self._collect()
            late = next((p.loaded for p in islice(self.unjudged, size) if not p.loaded.done()), None)
            if self.held and self.held[0].settled:
                if self.held[0].left_out:
                    self.held.popleft()
                else:
                    yield self._next_answer()
            elif self._is_due():
                self._teach(len(self.gathered))
            elif self._has_room():
                self._ask()
            elif len(self.unjudged) >= size and late is None:
                self._judge([self.unjudged.popleft() for _ in range(size)])
            elif self.held:
                self._rest(late)
            else:
                return

    def _next_answer(self) -> Answer:
        one = self.held.popleft()
        return Answer(one.item, one.image, one.prediction, one.score, one.deferred)

    def _has_room(self) -> bool:
        plan = self.plan
        return (
            not self.ended
            and len(self.held) < plan.window
            and len(self.unjudged) < plan.batch_size + plan.ahead
        )

    def _ask(self) -> None:
        one = _Picture(self.asked)
        self.asked += 1
        self.held.append(one)
        self.unjudged.append(one)
        self.source.do(self._pull, one)

    def _pull(self, one: _Picture) -> None:
        """Runs where the source is pulled."""
        one.item = _END if self.dry else next(self.items, _END)
        if one.item is _END:
            self.dry = True
            one.loaded.set_result(None)
        else:
            self.workers.do(self._load, one, done=one.loaded)

    def _load(self, one: _Picture) -> None:
        """Runs in a worker."""
        try:
            one.image = self.load(one.item)
        except InvalidInput as error:
            one.fault = error
        else:
            one.student_input = self.joint.student.preprocess(one.image)

    def _judge(self, batch: Sequence[_Picture]) -> None:
        self.judged += len(batch)
        for one in batch:
            if one.item is _END:
                self.ended = one.settled = one.left_out = True
            elif one.fault is not None:
                fault, one.fault = one.fault, None
                one.settled = one.left_out = True
                self.on_fault(one.item, fault)
        whole = [one for one in batch if not one.left_out]
        if whole:
            self._decide(whole)
        if self.ended:  # so is everything behind
            for one in self.unjudged:
                one.settled = one.left_out = True
            self.unjudged.clear()

    def _decide(self, batch: Sequence[_Picture]) -> None:
        inputs = [one.student_input for one in batch]
        for one in batch:
            one.student_input = None
        output, decision = self.joint.judge(inputs)
        now, patience = monotonic(), self.plan.patience_ms
        for index, one in enumerate(batch):
            one.score, one.deferred = float(decision.scores[index]), bool(decision.defer[index])
            if one.deferred:
                one.due = math.inf if patience is None else now + patience / 1000
                one.teacher_input = self.workers.do(self.joint.teacher.preprocess, one.image, urgent=True)
                self.gathered.append(one)
            else:
                one.prediction, one.settled = output.predictions[index], True
        most = self.plan.teacher_batch if self.gathers else len(self.gathered)
        while self.gathered and len(self.gathered) >= most:
            self._teach(most)

    def _is_due(self) -> bool:
        if not self.gathered:
            return False
        oldest = self.gathered[0]
        return self.ended or self.judged - oldest.place > self.plan.span or monotonic() >= oldest.due

    def _teach(self, size: int) -> None:
        lot = [self.gathered.popleft() for _ in range(size)]
        inputs = [one.teacher_input for one in lot]
        for one in lot:
            one.teacher_input = None
        self.taught.append((lot, self.teacher.do(self._answered, inputs)))

    def _answered(self, inputs: "list[Future[Any]]") -> Sequence[Any]:
        """Runs where the teacher works."""
        return self.joint.teach([one.result() for one in inputs])

    def _collect(self) -> None:
        if self.failed.done():
            self.failed.result()
        while self.taught and self.taught[0][1].done():
            lot, done = self.taught.popleft()
            for one, prediction in zip(lot, done.result(), strict=True):
                one.prediction, one.settled = prediction, True

    def _rest(self, late: "Future[Any] | None") -> None:
        """Until a picture is loaded, the teacher has answered, something failed or a picture is due."""
        due = self.gathered[0].due - monotonic() if self.gathered else math.inf
        awaited = {self.failed, *([late] if late else []), *(done for _, done in islice(self.taught, 1))}
        wait(awaited, min(max(due, 0.0), TIMEOUT_MAX), FIRST_COMPLETED)


def _refuse(item: Any, error: InvalidInput) -> None:
    """A picture that cannot be loaded is an error."""
    raise error


def answers(
    joint: JointModel,
    items: Iterable[Any],
    load: Callable[[Any], Any],
    plan: Plan,
    on_fault: Callable[[Any, InvalidInput], None] = _refuse,
) -> Generator[Answer, None, None]:
    """The answers of `joint` to a stream of pictures, in its order.

    Answers, decisions and scores are, bit for bit, those of `JointModel` called with one batch of
    `plan.batch_size` places after the other. Each picture is loaded once and preprocessed once by the
    student and, where it is deferred, once by the teacher. At most `plan.window` pictures are held: a picture
    counts from before it is asked for until its answer is handed out.

    A deferred picture goes to the teacher when the teacher's batch is full, when it has waited for
    `patience_ms`, when the student is `plan.span` places on, or when the stream ends. Its patience is looked
    at whenever the stream is asked for an answer and no model works in the calling thread, so that a batch
    of the student may come on top. With workers the wait for a slow source ends when a picture is due;
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
    failed: Future[Any] = Future()
    with (
        Crew(int(plan.overlap), failed) as teacher,
        Crew(plan.workers, failed) as workers,
        Crew(min(plan.workers, 1), failed, waits=False) as source,
    ):
        yield from Line(joint, iter(items), load, plan, on_fault, source, workers, teacher, failed).run()
