"""`demo`: the live pair on a video, a camera or pictures, filmed together with what it decides and costs."""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from ebjr_det.api.space import bytes_of_film
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.joint import JointModel, JointTeacher
from ebjr_det.core.router import ABSTAINED, finite
from ebjr_det.inference.latency import TimedModel
from ebjr_det.inference.live import Live, Settings, build_live, choose_threshold
from ebjr_det.io.files import check_space
from ebjr_det.io.interrupts import interruptible
from ebjr_det.io.lettering import check_letters
from ebjr_det.io.load import Load, Meter, Stopwatch
from ebjr_det.io.source import PICTURES_FPS, Source, place_of
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.film import Board, Moment, Standing, view_for
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

    from ebjr_det.io.video.reading import Footage

SLOWEST, FASTEST = 0.01, 1000.0
WARMUP = 2


@dataclass(frozen=True)
class FilmSettings:
    """What a film shows of its source.

    Attributes:
        least_score: of the boxes that are drawn.
        side_by_side: show the teacher's answer to every frame beside the pair's, and so time it on all.
        fps: film all frames at so many a second. Without it every frame is seen when it is in the source,
            whose turns may vary, and pictures for a tenth of a second each.
        seconds, limit: end after so many seconds of the source, or frames.

    Raises:
        ConfigError: a number that cannot be.
    """

    least_score: float = 0.3
    side_by_side: bool = False
    fps: float | None = None
    seconds: float | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not SLOWEST <= self.fps <= FASTEST:
            raise ConfigError(f"Expected `fps` to be between {SLOWEST:g} and {FASTEST:g}, got {self.fps:g}.")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ConfigError(f"Expected `seconds` to be a number above 0, got {self.seconds:g}.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"Expected a `limit` of at least 1 frame, got {self.limit}.")

    @property
    def end(self) -> Fraction | None:
        """The second at which to end: exactly the number that was typed."""
        return None if self.seconds is None else Fraction(repr(self.seconds))

    def frames(self, footage: "Footage") -> int | None:
        """How many frames there will be, None where nobody knows."""
        counts = [self.limit, footage.count]
        if self.end is not None and footage.steady and footage.fps is not None:
            counts.append(math.ceil(self.end * footage.fps))
        elif self.end is not None and not footage.live:
            return None
        return min((count for count in counts if count is not None), default=None)


@dataclass(frozen=True)
class DemoResult:
    """What was filmed, who answered, and what it cost; its fields are the keys of the JSON.

    Attributes:
        seconds: the film's length; `size`: its width and height.
        abstained: frames that a specialised student handed on whatever their score.
        in_front: frames that a router in front of the student sent on; it did not see them.
        threshold: None where it is infinite: all frames were deferred, or none.
        macs, latency_ms: an image, of the `pair` and the `teacher`; None what nobody knows.
        load: of the CPUs while it was filmed.
    """

    frames: int
    unreadable: int
    seconds: float
    fps: float
    size: Sequence[int]
    deferred: int
    abstained: int
    in_front: int
    deferral_rate: float
    score: str
    threshold: float | None
    macs: dict[str, float | None]
    latency_ms: dict[str, float | None]
    load: Load
    out: str

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self) | {"load": self.load.to_dict()}


DEFAULTS = FilmSettings()


@on_threads("run")
def demo(
    config: Settings,
    source: str,
    out: str | Path,
    settings: FilmSettings = DEFAULTS,
    *,
    threshold: float | None = None,
    rate: float | None = None,
) -> DemoResult:
    """Film the live pair: every frame with its answer, who gave it, the deferral score and the cost so far.

    Frames are answered one by one. A time is an image's preprocessing and inference after a warm-up, without
    decoding and drawing; the teacher's is known from the frames that it answers. Multiply-adds are those
    that the configuration states, or counted on the first frame. Memory does not grow with the length.

    Args:
        source: a video file; a folder, file or pattern of pictures, of which one that cannot be decoded is
            named and left out; or a camera, such as `camera:0`, which Ctrl-C ends.
        out: an mp4 file in a folder that is there; it appears when it is whole.
        threshold, rate: as in `predict`.

    Raises:
        ConfigError: no threshold, or no font to draw with.
        InvalidInput: a source that cannot be read to its end, frames of several sizes, no place for the
            result, or a disk that is too full.

    Example:
        >>> from ebjr_det import demo, load_config
        >>> result = demo(load_config("digits"), "pictures", "film.mp4", threshold=-0.9)
        >>> result.frames, Path("film.mp4").is_file()
        (4, True)
    """
    check_letters()
    scoring, threshold = choose_threshold(config, threshold, rate, fronted=True)
    opened = Source.of(source)
    film = place_of(Path(out), opened)
    fps = None if settings.fps is None else Fraction(settings.fps).limit_denominator(1001)
    first, footage = opened.look(fps or PICTURES_FPS)
    speed = fps or footage.fps
    if speed is None:
        raise ConfigError(f"Expected a frame rate, got none in `{source}`. Give --fps.")
    check_space(film.parent, bytes_of_film(settings.frames(footage)))
    live = build_live(config, scoring, threshold, lambda: [first], opened.first)
    scene = _Scene(config, live, settings, first)
    meter = Meter()
    seconds = _shoot(scene, opened, film, speed)
    return scene.result(opened, film, seconds, meter.lap())


def _shoot(scene: "_Scene", source: Source, out: Path, fps: Fraction) -> float:
    """All frames into the film, whose seconds it returns; Ctrl-C ends a camera's film as if asked for."""
    from ebjr_det.io.video.writing import write_video

    settings = scene.settings
    with source.open(fps) as footage, write_video(out, scene.board.size, fps) as film:
        total, last = settings.frames(footage), settings.end
        limit = None if settings.limit is None else min(settings.limit, sys.maxsize)
        with interruptible(footage.live) as stopped, tqdm(total=total, unit="frame", desc="filming") as bar:
            for start, end, picture in islice(footage.frames, limit):
                if last is not None and start >= last:
                    break
                if last is not None and end is not None:
                    end = min(end, last)
                times = (start, end) if settings.fps is None else ()
                film.add(scene.compose(picture, total), *times)
                bar.set_postfix_str(scene.in_words, refresh=False)
                bar.update()
                if stopped.is_set():
                    break
        if not scene.frames:
            raise InvalidInput(f"Expected at least one frame of `{source.name}`, got none.")
        return film.seconds


class _Scene:
    """The pair, its teacher under a clock, the board that shows its answers, and what they add up to."""

    def __init__(self, config: Settings, live: Live, settings: FilmSettings, first: "Image") -> None:
        self.show, self.named, self.settings = load_task(config.task).show, live.named, settings
        self.frames = self.deferred = self.abstained = self.in_front = 0
        self.pictures, self.watch = 1 + settings.side_by_side, Stopwatch()
        student, teacher, front = live.joint.student, live.joint.teacher, live.joint.front
        for _ in range(WARMUP):
            prediction = student([student.preprocess(first)]).predictions[0]
            teacher([teacher.preprocess(first)])
            if front is not None:
                front.model([front.model.preprocess(first)])
        counted = None if front is None else getattr(front.model, "macs", None)
        self.front_macs = 0.0 if front is None else macs_of(front.model, first, counted)
        nested, stated = isinstance(plain(teacher), JointTeacher), config.teacher.macs  # unknown where nested
        self.cost = CostModel(
            macs_of(plain(student), first, config.student.macs, "student.macs"),
            stated if nested else macs_of(plain(teacher), first, stated, "teacher.macs"),
        )
        self.teacher, threshold = TimedModel(teacher, self.watch, "teacher"), live.joint.threshold
        self.joint = JointModel(student, self.teacher, live.joint.score, threshold, front)
        self.board = Board(self._drawn(first, prediction).size, self.pictures, live.scoring.name, threshold)

    @property
    def deferral_rate(self) -> float:
        return self.deferred / max(self.frames, 1)

    @property
    def in_words(self) -> str:
        speed = self.frames / max(self.watch.seconds["pair"], 1e-9)
        return f"{100 * self.deferral_rate:.1f} % to the teacher, pair {speed:.1f}/s"

    def compose(self, picture: "Image", count: int | None) -> "Image":
        output = self.watch.time("pair", self.joint, [picture])
        prediction, score = output.predictions[0], float(output.decision.scores[0])
        deferred, in_front = bool(output.decision.defer[0]), output.decision.in_front
        fronted = in_front is not None and bool(in_front[0])
        abstained = not fronted and score > ABSTAINED / 2
        self.frames += 1
        self.in_front += fronted
        self.deferred += deferred
        self.abstained += abstained
        drawn = [self._drawn(picture, prediction)]
        if self.pictures > 1 and deferred:
            drawn *= 2
        elif self.pictures > 1:
            inputs = [self.joint.teacher_input(picture, score)]
            drawn.append(self._drawn(picture, self.teacher(inputs).predictions[0]))
        moment = Moment(score - ABSTAINED if abstained else score, deferred, abstained, fronted)
        return self.board.compose(drawn, moment, self.standing(count))

    def standing(self, count: int | None) -> Standing:
        """Means over the frames so far."""
        seconds, images = self.watch.seconds, self.teacher.images
        teacher_ms = 1e3 * seconds["teacher"] / images if images else None
        macs, skipped = self.cost.macs(self.deferral_rate), self.in_front / max(self.frames, 1)
        if macs is not None and self.cost.student_macs is not None:
            macs += self.front_macs - skipped * self.cost.student_macs
        ms = 1e3 * seconds["pair"] / self.frames, teacher_ms
        return Standing(self.frames, count, self.deferral_rate, (macs, self.cost.teacher_macs), ms)

    def result(self, source: Source, film: Path, seconds: float, load: Load) -> DemoResult:
        standing, threshold, sides = self.standing(None), self.joint.threshold, ("pair", "teacher")
        return DemoResult(
            self.frames, len(source.left_out), seconds, self.frames / seconds, list(self.board.size),
            self.deferred, self.abstained, self.in_front, self.deferral_rate,
            self.board.score, finite(threshold),
            dict(zip(sides, standing.macs, strict=True)), dict(zip(sides, standing.ms, strict=True)),
            load, str(film),
        )  # fmt: skip

    def _drawn(self, picture: "Image", prediction: Prediction) -> "Image":
        side = max(view_for(picture.size, self.pictures))
        least_score = self.settings.least_score
        drawn: Image = self.show.annotate(picture, prediction, self.named, least_score, side=side)
        return drawn
