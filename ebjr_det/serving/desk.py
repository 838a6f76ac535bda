"""The desk: admission, decoding, student, decision, and the teacher's answer or the student's.

The asynchronous twin of `inference.stream`: only `JointModel.judge` and `.teach` answer, and only the
router's rule decides. While the teacher is waited for, the student's answer is at hand.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeAlias

import numpy as np

from ebjr_det.core.errors import InvalidInput, OutOfMemory
from ebjr_det.core.router import decide
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.laws import CALIBRATED
from ebjr_det.serving.metrics import Meters
from ebjr_det.serving.pair import Bench, Judged, Load, Served
from ebjr_det.serving.protocol import Source
from ebjr_det.serving.rule import Rule
from ebjr_det.serving.settings import ServeSettings
from ebjr_det.serving.sources import Reading, Room
from ebjr_det.serving.teacher import Deferred, LocalTeacher, Teacher, in_time

TeacherOf: TypeAlias = Callable[[Served], Teacher]
"""Makes the teacher of a pair; called at the start and at each reload."""
SHADOW = {
    "agreement": "Of student and teacher on kept pictures, from 0 to 1.",
    "pictures": "Kept pictures that the teacher has seen too.",
}
"""Metrics by decile of the deferral score."""
SENDING = 0.01
"""Seconds before a deadline at which an answer is sent; a tenth of the time that a request has, if less."""
QUICK = 0.001
"""Seconds for which nobody minds that the loop's thread, which serves all, answers a request itself."""
SMALL = 1_000_000
"""Bytes of a request, and pixels, whose pictures are quickly decoded."""


@dataclass(frozen=True)
class Ask:
    """Pictures and the rule by which they are decided; `arrived` by the clock `monotonic`."""

    pictures: Sequence[Source]
    rule: Rule = field(default_factory=Rule)
    arrived: float = field(default_factory=monotonic)

    @property
    def left(self) -> float:
        """Seconds until what is at hand must be sent, to be there by the deadline."""
        limit = self.rule.max_latency_ms
        if limit is None:
            return math.inf
        return self.arrived + limit / 1000 - min(SENDING, limit / 10_000) - monotonic()


@dataclass
class Answered:
    """The answers to a request's pictures, and who gave them.

    Attributes:
        bench: the pair that answered all of them.
        scores, threshold: by which the decision can be made again: defer = score > threshold.
        degraded: why a deferred picture has the student's answer, else empty.
        seconds: by stage; total: since the request's arrival.
    """

    bench: Bench
    predictions: list[Opaque]
    scores: list[float]
    threshold: float
    answered_by: list[str]
    degraded: list[str]
    seconds: dict[str, float]
    total: float = 0.0


class Desk:
    """A pair that answers requests as they come.

    Args:
        load: reads the pair; called here, and again by `reload`.
        teacher_of: makes the teacher that is asked; by default the pair's, in this process.
    """

    def __init__(
        self, load: Load, settings: ServeSettings, meters: Meters, teacher_of: TeacherOf | None = None
    ) -> None:
        self.load, self.settings, self.meters = load, settings, meters
        self.pool = ThreadPoolExecutor(settings.readers, "ebjr-det reader")
        self.teacher_of = teacher_of or self._local
        self.bench = self._built()
        if settings.policy != CALIBRATED:
            say(
                f"Note: under policy `{settings.policy}` thresholds follow the traffic: what a "
                "calibration promises of the loss is void."
            )
        self.shadows = set[asyncio.Task[None]]()
        self.inside, self.unjudged, self.room = 0, 0, Room(settings.largest_pixels)
        self.reloading, self.answered = asyncio.Lock(), -math.inf
        meters.gauge("inside", "Pictures inside.", lambda: self.inside)
        meters.gauge("waiting_student", "Pictures at the student.", lambda: self.bench.student.waiting)
        meters.gauge("waiting_teacher", "Pictures at the teacher.", lambda: self.bench.teacher.waiting)
        meters.gauge("threshold", "The policy's threshold.", lambda: self.bench.threshold_for(Rule()))
        meters.gauge("deferral_rate", "Share of pictures that the teacher answered.", meters.share)
        meters.gauge(
            "breaker_state",
            "0 teacher asked, 1 not, 2 probed.",
            lambda: self.bench.teacher.breaker_state,
        )
        meters.gauge(
            "patience_seconds", "With the teacher, at most.", lambda: self.bench.teacher.patience_seconds
        )
        meters.gauge("drift_distance", "Of scores from the fit's.", lambda: self.bench.watch.distance)
        meters.gauge("drift_alarm", "1 where they have moved.", lambda: self.bench.watch.alarm)

        for name, meaning in SHADOW.items():
            meters.by_decile(f"shadow_{name}", meaning, partial(self._shadowed, name))

    def _shadowed(self, name: str, decile: int) -> float:
        shadow = self.bench.shadow
        return shadow.agreement(decile) if name == "agreement" else float(shadow.pictures[decile])

    def _built(self) -> Bench:
        served = self.load()
        teacher = self.teacher_of(served)
        with ExitStack() as threads:
            threads.callback(teacher.close)
            bench = Bench(served, self.settings, teacher)
            threads.callback(bench.student.close)
            bench.warm()
            threads.pop_all()
        return bench

    def _local(self, served: Served) -> Teacher:
        return LocalTeacher(served.live.joint, self.settings.largest_batch, self.pool)

    async def reload(self) -> None:
        """Read the pair again in a thread and swap it in whole; one that raises changes nothing."""
        async with self.reloading:
            try:
                bench = await asyncio.to_thread(self._built)
            except Exception:
                self.meters.reloads.labels("refused").inc()
                raise
            # In the loop's thread, where requests take their bench, so that none takes a retired one.
            self.bench, earlier = bench, self.bench
            bench.student.sizes = earlier.student.sizes
            earlier.retire()
            self.meters.reloads.labels("done").inc()

    def close(self) -> None:
        """End all threads when their work is done."""
        self.bench.retire()
        self.pool.shutdown(wait=True)

    async def answer(self, ask: Ask) -> Answered:
        """Answer pictures.

        Raises:
            Unavailable: no room (503), no answer in time (504).
            InvalidInput: a picture or a rule that is wrong.
        """
        bench, count = self.bench, len(ask.pictures)
        threshold = bench.threshold_for(ask.rule)  # a wrong rule is refused before it costs anything
        self._admit(bench, ask)
        bench.users += 1
        self.inside += count
        reading = Reading(ask.pictures, bench.served.live.joint.student.preprocess, self.room)
        try:
            return await self._answered(bench, ask, threshold, reading)
        finally:
            self.inside -= count
            reading.close()
            bench.release()

    def _admit(self, bench: Bench, ask: Ask) -> None:
        """Refuse what cannot be answered in time, before it costs anything."""
        waiting = max(self.unjudged, bench.student.waiting)
        expected = (waiting + len(ask.pictures)) * bench.student.seconds_each
        if self.inside and self.inside + len(ask.pictures) > self.settings.queue_size:
            raise self._refused("busy", Unavailable("busy", expected))
        if waiting and expected > ask.left:
            raise self._refused("deadline", Unavailable("busy", expected))

    def _refused(self, reason: str, fault: Unavailable) -> Unavailable:
        self.meters.shed.labels(reason).inc()
        return fault

    async def _judge(
        self, bench: Bench, ask: Ask, reading: Reading
    ) -> tuple[Sequence[Judged], dict[str, float]]:
        """The student's answers, and the seconds of each stage.

        Where the student has nothing else to do its own thread reads a small request, which saves two hops
        between threads; and the loop's thread does all, which saves the other two, where that is quick and
        leaves it time for others. Otherwise readers read, beside the student.
        """
        alone = not bench.student.waiting and reading.bytes <= SMALL
        self.unjudged += len(reading)
        try:
            expected, rested = len(reading) * bench.student.seconds_each, monotonic() - self.answered
            if alone and 0 < expected < min(QUICK, 2 * rested) and reading.pixels <= SMALL:
                judged = bench.student.answer_here(reading)
                self.answered = monotonic()
            else:
                if not alone:
                    await in_time(self.pool.submit(reading.read), ask.left)
                judged = await in_time(bench.student.submit(reading), ask.left)
        except TimeoutError as error:
            raise self._refused("deadline", Unavailable("deadline")) from error
        except OutOfMemory as error:
            raise self._refused("died", Unavailable("died")) from error
        except Unavailable as fault:
            raise self._refused(fault.reason, fault) from fault
        finally:
            self.unjudged -= len(reading)
        took = judged.took - (reading.seconds if alone else 0.0)
        return judged.results, {"read": reading.seconds, "student_wait": judged.waited, "student": took}

    async def _answered(self, bench: Bench, ask: Ask, threshold: float, reading: Reading) -> Answered:
        judged, seconds = await self._judge(bench, ask, reading)
        if ask.rule.follows_policy:  # which looks at what waits for the teacher now
            threshold = bench.threshold_for(ask.rule)
        predictions, scores = [row[0] for row in judged], [row[1] for row in judged]
        defer = decide(scores, threshold).defer
        front = "teacher" if bench.served.alone else "student"
        sides, reasons = [front] * len(scores), [""] * len(scores)
        answer = Answered(bench, predictions, scores, threshold, sides, reasons, seconds)
        if (indices := defer.nonzero()[0].tolist()) and ask.rule.force != "student":
            await self._teach(ask, answer, Deferred(reading.sources, reading.pictures, scores), indices)
        if self.settings.shadow:
            self._begin_shadow(ask, answer, Deferred(reading.sources, reading.pictures, scores))
        if ask.rule.follows_policy:
            bench.law.observe(len(indices), len(scores))
        bench.watch.add(np.array(scores))
        answer.total = monotonic() - ask.arrived
        self.meters.answered(answer)
        return answer

    async def _teach(self, ask: Ask, answer: Answered, read: Deferred, indices: Sequence[int]) -> None:
        """The teacher's answers in place of the student's, or the reason why there are none."""
        teacher, count = answer.bench.teacher, len(indices)
        try:
            if teacher.waiting and teacher.waiting + count > self.settings.teacher_queue:
                raise Unavailable("busy", teacher.expected_seconds(count))
            taught = await teacher.answer(read.those(indices), ask.left)
        except InvalidInput as error:
            if isinstance(error, OutOfMemory):
                error = Unavailable("died")
            if ask.rule.force is not None:
                raise error
            reason = error.reason if isinstance(error, Unavailable) else "refused"
            for index in indices:
                answer.degraded[index] = reason
            return
        answer.seconds |= {"teacher_wait": taught.waited, "teacher": taught.took}
        for index, prediction in zip(indices, taught.results, strict=True):
            answer.predictions[index], answer.answered_by[index] = prediction, "teacher"

    def _begin_shadow(self, ask: Ask, answer: Answered, read: Deferred) -> None:
        """Show the teacher one of the pictures that the student has kept, where nobody else waits."""
        bench = answer.bench
        if bench.served.alone or bench.teacher.waiting or self.inside > len(ask.pictures):
            return
        unasked = [i for i, by in enumerate(answer.answered_by) if by == "student" and not answer.degraded[i]]
        for index in bench.shadow.drawn(unasked)[:1]:
            pair = answer.predictions[index], answer.scores[index]
            task = asyncio.get_running_loop().create_task(self._compare(bench, read.those([index]), *pair))
            bench.users += 1
            self.shadows.add(task)
            task.add_done_callback(self.shadows.discard)

    async def _compare(self, bench: Bench, read: Deferred, prediction: Opaque, score: float) -> None:
        """Count how much the teacher's answer agrees with the student's; none, and nothing is counted."""
        try:
            with suppress(InvalidInput):
                taught = await bench.teacher.answer(read, math.inf)
                bench.shadow.add(score, bench.served.tensors.agreement(prediction, taught.results[0]))
        finally:
            bench.release()
