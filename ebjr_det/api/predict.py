"""`predict`: the live pair on pictures of one's own."""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tqdm.auto import tqdm

from ebjr_det.api.space import QUALITY, bytes_of_copies
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.router import finite
from ebjr_det.inference.live import Settings, build_live, choose_threshold
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.inference.threads import WorkerPool
from ebjr_det.io.files import atomic_write, check_space, json_list, replaced_folder, writable_folder
from ebjr_det.io.lettering import check_letters, with_strip
from ebjr_det.io.load import Load, Meter
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import open_picture, picture_warnings
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.film import STUDENT, TEACHER
from ebjr_det.routing.file import FRONT
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Classes, Show

if TYPE_CHECKING:
    from PIL.Image import Image

RESULTS, IMAGES, PICTURES = "predictions.json", "images.json", "pictures"
SIGNATURE = {"file_name", "answered_by", "deferral_score", "drawn"}
"""What `images.json` tells of every picture, by which one is known."""
SAMPLES, SPREAD = 4, 8
MOST_BYTES = 160  # of a picture's name in the name of its annotated copy


@dataclass(frozen=True)
class AnsweredPictures:
    """How many pictures were answered, and by whom; its fields are the keys of the JSON.

    Attributes:
        images: answered pictures; `unreadable`: those left out; `deferred`: answered by the teacher.
        threshold: None where it is infinite: all pictures were deferred, or none.
    """

    images: int
    unreadable: int
    deferred: int
    deferral_rate: float
    score: str
    threshold: float | None

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PredictResult(AnsweredPictures):
    """Answered pictures in `seconds`, without building the models; `load`: of the CPUs meanwhile."""

    seconds: float
    pictures_per_second: float
    load: Load
    out: str

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return super().to_dict() | {"load": self.load.to_dict()}


@on_threads("run")
def predict(
    config: Settings,
    pictures: Sequence[str],
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    least_score: float = 0.3,
) -> PredictResult:
    """Answer pictures with the live pair: annotated copies and JSON in a folder.

    `predictions.json` is a COCO result file (all boxes; image ids count from 1 in the order of the pictures),
    `images.json` tells of each picture its file, size, deferral score and who answered. One that cannot be
    decoded is named and left out. With `run.workers`, pictures are decoded, resized, drawn and written in so
    many threads beside the models. However many pictures there are, at most `Plan.window` are held between
    decoding and answer (see `inference.answers`) and two a worker wait to be drawn.

    Args:
        pictures: files, folders and patterns.
        out: a folder, empty or with earlier predictions, which all go when these are whole.
        threshold: instead of `router.threshold`.
        rate: instead of both, the deferral rate that a fitted router's threshold had at its fit.
        least_score: of the boxes that are drawn; the JSON holds all.

    Raises:
        ConfigError: no threshold, other files in `out`, or some of the pictures, or no font to draw with.
        InvalidInput: no picture, or none that can be decoded, or a disk that is too full.

    Example:
        >>> from ebjr_det import load_config, predict
        >>> result = predict(load_config("digits"), ["pictures"], "answers", threshold=-0.9)
        >>> result.images, sorted(path.name for path in Path("answers").iterdir())
        (4, ['images.json', 'pictures', 'predictions.json'])
    """
    check_letters()
    scoring, threshold = choose_threshold(config, threshold, rate, fronted=True)
    files, run = find_pictures(pictures), config.run

    def at_work(drawn_to: Path) -> Work:
        live = build_live(config, scoring, threshold, lambda: _samples(files), partial(spread, files))
        show = load_task(config.task).show
        limits = threshold, least_score, config.router.front_threshold
        copies = Copies(drawn_to, files, show, live.named, scoring.name, *limits)
        size = run.batch_size
        plan = Plan(size, run.teacher_batch or size, run.workers, run.patience_ms, run.overlap, run.regroup)
        return copies, answers(
            live.joint, range(len(files)), lambda index: open_picture(files[index]), plan, say_left_out
        )

    return write_answers(files, Path(out), at_work, run.workers)


def write_answers(
    files: Sequence[Path], out: Path, at_work: "Callable[[Path], Work]", workers: int = 0
) -> PredictResult:
    """Fill the folder with answers to pictures, drawn and written in so many threads.

    `at_work` gives, of the folder for annotated copies, what makes these, and the answers as they come.
    """
    check_apart(files, out)
    check_space(out, bytes_of_copies(spread(files, SPREAD), len(files)))
    with replaced_folder(out, (RESULTS, PICTURES, IMAGES), "predict", earlier_in(out)) as folder:
        copies, stream = at_work(writable_folder(folder / PICTURES))
        meter = Meter()
        count, deferred = _write_all(copies, stream, workers, folder)
        load = meter.lap()
    return PredictResult(
        count, len(files) - count, deferred, deferred / count, copies.score, finite(copies.threshold),
        load.seconds, count / load.seconds, load, str(out),
    )  # fmt: skip


def earlier_in(folder: Path) -> Callable[[Path], bool]:
    """Whether an entry of the folder is of an earlier `predict`, and no user's own; `images.json` tells."""
    drawn = _drawn(folder / IMAGES)

    def is_earlier(entry: Path) -> bool:
        if entry.name == PICTURES:
            return entry.is_dir() and drawn.issuperset(picture.name for picture in entry.iterdir())
        return entry.is_file() and bool(drawn)

    return is_earlier


def _drawn(images: Path) -> set[str]:
    """The annotated copies that an `images.json` tells of; none where it is another file, or missing."""
    names = set()
    try:
        with images.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip() not in ("[", "]"):
                    entry = json.loads(line.rstrip(",\n"))
                    if not isinstance(entry, dict) or not entry.keys() >= SIGNATURE:
                        return set()
                    names.add(str(entry["drawn"]).removeprefix(f"{PICTURES}/"))
    except (OSError, ValueError, RecursionError):
        return set()
    return names


def check_apart(files: Sequence[Path], out: Path) -> None:
    """Raises ConfigError where `out`, which is replaced as a whole, holds a picture that is asked for."""
    folder = os.path.realpath(out)
    inside = (path for path in files if Path(os.path.realpath(path)).is_relative_to(folder))
    if out.is_dir() and (path := next(inside, None)):
        raise ConfigError(
            f"Expected pictures outside of --out, got `{path}` in `{out}`, which is replaced. Choose another "
            "--out."
        )


def _decodable(files: Iterable[Path]) -> "Iterator[Image]":
    """The pictures that can be decoded; the others are named when their turn comes."""
    for path in files:
        with suppress(InvalidInput):
            yield open_picture(path)


def _samples(files: Sequence[Path]) -> "list[Image]":
    """The first pictures that can be decoded; runtimes are tried on them."""
    samples = list(islice(_decodable(files), SAMPLES))
    check_any(len(samples), files)
    return samples


def spread(files: Sequence[Path], count: int) -> "Iterator[Image]":
    """So many pictures at even distances, or all."""
    indices = sorted({len(files) * step // count for step in range(count)})
    return _decodable(files[index] for index in indices)


def check_any(count: int, files: Sequence[Path]) -> None:
    """Raises InvalidInput where no picture could be decoded."""
    if not count:
        raise InvalidInput(f"Expected a picture that can be decoded, got none among {len(files)}.")


@dataclass
class Copies:
    """Annotated copies of the pictures in a folder, and what is told of each."""

    folder: Path
    files: Sequence[Path]
    show: Show
    named: Classes
    score: str
    threshold: float
    least_score: float
    front_threshold: float | None = None

    def write(self, answer: "Answer[int, Image]") -> None:
        """One copy, under a strip that tells who answered and why."""
        who, sign, color = ("teacher", ">", TEACHER) if answer.deferred else ("student", "\u2264", STUDENT)
        score, limit = self.score, self.threshold
        if answer.in_front and self.front_threshold is not None:
            score, limit = FRONT, self.front_threshold
        text = f"{who}   {score} {answer.score:.3f} {sign} {limit:.3f}"
        drawn = self.show.annotate(answer.image, answer.prediction, self.named, self.least_score)
        with atomic_write(self.folder / self._name(answer.item)) as temporary:
            with_strip(drawn, text, color).save(temporary, "JPEG", quality=QUALITY)

    def _name(self, index: int) -> str:
        stem = self.files[index].stem
        while len(os.fsencode(stem)) > MOST_BYTES:  # systems count a name's bytes: up to four a letter
            stem = stem[:-1]
        return f"{index + 1:06d}_{stem}.jpg"

    def facts(self, answer: "Answer[int, Image]") -> dict[str, object]:
        """The entry of `images.json`."""
        return {
            "id": answer.item + 1,
            "file_name": str(self.files[answer.item]),
            "width": answer.image.width,
            "height": answer.image.height,
            "answered_by": "teacher" if answer.deferred else "student",
            "deferral_score": answer.score,
            **({} if self.front_threshold is None else {"in_front": answer.in_front}),
            "drawn": f"{PICTURES}/{self._name(answer.item)}",
        }


Work: TypeAlias = "tuple[Copies, Generator[Answer[int, Image]]]"
"""What makes copies, and the answers as they come."""


def _write_all(
    copies: Copies, stream: "Generator[Answer[int, Image]]", workers: int, folder: Path
) -> tuple[int, int]:
    """Write all answers; how many there were, and how many of them were deferred."""
    count = deferred = 0
    drawing: deque[Future[None]] = deque()
    with (
        picture_warnings(),
        json_list(folder / RESULTS) as add_result,
        json_list(folder / IMAGES) as add_image,
        WorkerPool(workers, Future()) as pool,
        closing(stream),
        tqdm(total=len(copies.files), unit="img", desc="predicting") as bar,
    ):
        for answer in stream:
            while len(drawing) >= max(2 * workers, 1):
                drawing.popleft().result()
            drawing.append(pool.submit(copies.write, answer))
            for entry in copies.show.to_entries(answer.prediction, answer.item + 1, copies.named):
                add_result(entry)
            add_image(copies.facts(answer))
            count += 1
            deferred += answer.deferred
            bar.update()
            bar.set_postfix_str(f"{100 * deferred / count:.1f} % to the teacher", refresh=False)
        check_any(count, copies.files)
        for future in drawing:
            future.result()
    return count, deferred


def say_left_out(index: int, error: InvalidInput) -> None:
    """A line on stderr for a picture that is left out."""
    tqdm.write(f"Left out: {error}", file=sys.stderr)
