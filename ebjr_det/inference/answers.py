"""The live pair on a stream: pictures loaded ahead in threads, deferred ones gathered for the teacher.

Convention: a place counts the items from 0; student batches are cut at multiples of the batch size, so the
same pictures meet in a batch whatever else is set. Every decision is `JointModel`'s. Knows nothing about what
pictures and predictions are; threads must be allowed to load and preprocess at the same time.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.inference.stream import Line
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.inference.threads import Crew

__all__ = ["Answer", "Plan", "answers"]


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
