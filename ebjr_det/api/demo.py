"""`demo`: the live pair on a video, a camera or pictures, filmed together with what it decides and costs."""

import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from ebjr_det.api.space import bytes_of_film
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.router import ABSTAINED
from ebjr_det.core.types import Model, Output
from ebjr_det.inference.live import Live, Settings, build_live, choose_threshold
from ebjr_det.io.files import check_space
from ebjr_det.io.lettering import check_letters
from ebjr_det.io.load import Meter
from ebjr_det.io.source import PICTURES_FPS, Source, place_of
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.film import Board, Moment, Standing, view_for
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task

if TYPE_CHECKING:
    from ebjr_det.io.video import Footage

SLOWEST, FASTEST = 0.01, 1000.0
WARMUP = 2


@on_threads("run")
def demo(
    config: Settings,
    source: str,
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    least_score: float = 0.3,
    side_by_side: bool = False,
    fps: float | None = None,
    seconds: float | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Film the live pair: every frame with its answer, who gave it, the deferral score and the cost so far.

    Frames are answered one by one. A time is an image's preprocessing and inference after a warm-up, without
    decoding and drawing; the teacher's is known from the frames that it answers. Multiply-adds are those
    that the configuration states, or counted on the first frame. Memory does not grow with the length.

    Args:
        source: a video file; a folder, file or pattern of pictures, of which one that cannot be decoded is
            named and left out; or a camera, such as `camera:0`, which Ctrl-C ends.
        out: an mp4 file in a folder that is there; it appears when it is whole.
        threshold, rate: as in `predict`.
        least_score: of the boxes that are drawn.
        side_by_side: show the teacher's answer to every frame beside the pair's, and so time it on all.
        fps: film all frames at so many a second. Without it every frame is seen when it is in the source,
            whose turns may vary, and pictures for a tenth of a second each.
        seconds, limit: end after so many seconds of the source, or frames.

    Raises:
        ConfigError: no threshold, no such number of frames, or no font to draw with.
        InvalidInput: a source that cannot be read to its end, frames of several sizes, no place for the
            result, or a disk that is too full.
    """
    _check_numbers(fps, seconds, limit)
    check_letters()
    scoring, chosen = choose_threshold(config, threshold, rate)
    taken = Source.of(source)
    film = place_of(Path(out), taken)
    asked = None if fps is None else Fraction(fps).limit_denominator(1001)
    first, footage = taken.look(asked or PICTURES_FPS)
    speed = asked or footage.fps
    if speed is None:
        raise ConfigError(f"Expected a frame rate, got none in `{source}`. Give --fps.")
    ends = _Ends(seconds, limit)
    check_space(film.parent, bytes_of_film(ends.frames(footage)))
    live = build_live(config, scoring, chosen, lambda: [first], taken.first)
    scene = _Scene(config, live, least_score, side_by_side, first)
    meter = Meter()
    _shoot(scene, taken, film, speed, ends, own_times=fps is None)
    tally, standing = scene.tally, scene.standing(None)
    return {
        "frames": tally.frames,
        "unreadable": len(taken.left_out),
        "seconds": tally.seconds,
        "fps": tally.frames / tally.seconds,
        "size": list(scene.board.size),
        "deferred": tally.deferred,
        "abstained": tally.abstained,
        "deferral_rate": tally.deferral_rate,
        "score": live.scoring.name,
        "threshold": chosen if math.isfinite(chosen) else None,
        "macs": dict(zip(("pair", "teacher"), standing.macs, strict=True)),
        "latency_ms": dict(zip(("pair", "teacher"), standing.ms, strict=True)),
        "load": meter.lap().to_dict(),
        "out": str(film),
    }


def _check_numbers(fps: float | None, seconds: float | None, limit: int | None) -> None:
    if fps is not None and not SLOWEST <= fps <= FASTEST:
        raise ConfigError(f"Expected `fps` to be between {SLOWEST:g} and {FASTEST:g}, got {fps:g}.")
    if seconds is not None and not 0 < seconds < math.inf:
        raise ConfigError(f"Expected `seconds` to be a number above 0, got {seconds:g}.")
    if limit is not None and limit < 1:
        raise ConfigError(f"Expected a `limit` of at least 1 frame, got {limit}.")


@dataclass(frozen=True)
class _Ends:
    """When to stop before the source does."""

    seconds: float | None
    limit: int | None

    @property
    def second(self) -> Fraction | None:
        """Exactly the number that was typed."""
        return None if self.seconds is None else Fraction(repr(self.seconds))

    def frames(self, footage: "Footage") -> int | None:
        """How many there will be, None where nobody knows."""
        counts = [self.limit, footage.count]
        if self.second is not None and footage.steady and footage.fps is not None:
            counts.append(math.ceil(self.second * footage.fps))
        elif self.second is not None and not footage.live:
            return None
        return min((number for number in counts if number is not None), default=None)


def _shoot(
    scene: "_Scene", source: Source, out: Path, fps: Fraction, ends: _Ends, *, own_times: bool
) -> None:
    """All frames into the film; Ctrl-C ends a camera's film as if it had been asked for."""
    from ebjr_det.io.video import write_video

    with source.open(fps) as footage, write_video(out, scene.board.size, fps) as film:
        total = ends.frames(footage)
        most = None if ends.limit is None else min(ends.limit, sys.maxsize)
        with (
            _interruptible(footage.live) as interrupted,
            tqdm(total=total, unit="frame", desc="filming") as bar,
        ):
            for start, end, picture in islice(footage.frames, most):
                if ends.second is not None and start >= ends.second:
                    break
                if ends.second is not None and end is not None:
                    end = min(end, ends.second)
                times = (start, end) if own_times else ()
                film.add(scene.compose(picture, total), *times)
                scene.tally.seconds = film.seconds
                bar.set_postfix_str(scene.tally.in_words, refresh=False)
                bar.update()
                if interrupted.is_set():
                    break
        if not scene.tally.frames:
            raise InvalidInput(f"Expected at least one frame of `{source.name}`, got none.")


@contextmanager
def _interruptible(live: bool) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as ever. Only for a live source."""
    asked = threading.Event()
    if not live or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass
class _Tally:
    """What the frames so far add up to; `seconds` is the film's length."""

    frames: int = 0
    deferred: int = 0
    abstained: int = 0
    busy: float = 0.0
    seconds: float = 0.0

    @property
    def deferral_rate(self) -> float:
        return self.deferred / max(self.frames, 1)

    @property
    def in_words(self) -> str:
        speed = self.frames / max(self.busy, 1e-9)
        return f"{100 * self.deferral_rate:.1f} % to the teacher, pair {speed:.1f}/s"


class _Timed:
    """A model that keeps the time of its preprocessing and inference."""

    def __init__(self, model: Model) -> None:
        self.model, self.name = model, model.name
        self.images, self.busy = 0, 0.0

    def preprocess(self, image: Any) -> Any:
        start = perf_counter()
        ready = self.model.preprocess(image)
        self.busy += perf_counter() - start
        return ready

    def __call__(self, inputs: Sequence[Any]) -> Output:
        start = perf_counter()
        output = self.model(inputs)
        self.busy += perf_counter() - start
        self.images += len(inputs)
        return output


class _Scene:
    """The pair, its teacher under a clock, and the board that its answers are shown on."""

    def __init__(
        self, config: Settings, live: Live, least_score: float, side_by_side: bool, first: Any
    ) -> None:
        self.answers, self.named, self.least_score = load_task(config.task).show, live.named, least_score
        self.pictures, self.tally = 1 + side_by_side, _Tally()
        student, teacher = live.joint.student, live.joint.teacher
        for _ in range(WARMUP):
            answer = student([student.preprocess(first)]).predictions[0]
            teacher([teacher.preprocess(first)])
        self.cost = CostModel(
            macs_of(student, first, config.student.macs, "student.macs"),
            macs_of(teacher, first, config.teacher.macs, "teacher.macs"),
        )
        self.teacher = _Timed(teacher)
        self.joint = JointModel(student, self.teacher, live.joint.score, live.joint.threshold)
        view = self._drawn(first, answer).size
        self.board = Board(view, self.pictures, live.scoring.name, live.joint.threshold)

    def compose(self, picture: Any, count: int | None) -> Any:
        """The film's next frame."""
        start = perf_counter()
        output = self.joint([picture])
        self.tally.busy += perf_counter() - start
        answer, score = output.predictions[0], float(output.decision.scores[0])
        deferred, abstained = bool(output.decision.defer[0]), score > ABSTAINED / 2
        self.tally.frames += 1
        self.tally.deferred += deferred
        self.tally.abstained += abstained
        drawn = [self._drawn(picture, answer)]
        if self.pictures > 1:
            alone = answer if deferred else self.teacher([self.teacher.preprocess(picture)]).predictions[0]
            drawn.append(drawn[0] if deferred else self._drawn(picture, alone))
        moment = Moment(score - ABSTAINED if abstained else score, deferred, abstained)
        return self.board.compose(drawn, moment, self.standing(count))

    def standing(self, count: int | None) -> Standing:
        """Means over the frames so far."""
        tally, teacher = self.tally, self.teacher
        macs = self.cost.macs(tally.deferral_rate), self.cost.teacher_macs
        alone = 1e3 * teacher.busy / teacher.images if teacher.images else None
        return Standing(
            tally.frames, count, tally.deferral_rate, macs, (1e3 * tally.busy / tally.frames, alone)
        )

    def _drawn(self, picture: Any, answer: Any) -> Any:
        side = max(view_for(picture.size, self.pictures))
        return self.answers.annotate(picture, answer, self.named, self.least_score, side=side)
