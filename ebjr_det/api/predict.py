"""`predict`: the live pair on pictures of one's own."""

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from tqdm.auto import tqdm

from ebjr_det.api.space import QUALITY, bytes_of_copies
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.inference.live import Live, Settings, build_live, choose_threshold
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.io.files import atomic_write, check_space, replaced_folder, writable_folder
from ebjr_det.io.lettering import check_letters, with_strip
from ebjr_det.io.load import Meter
from ebjr_det.io.pictures import find_pictures, open_picture, picture_warnings
from ebjr_det.io.threads import on_threads
from ebjr_det.reporting.film import STUDENT, TEACHER
from ebjr_det.tasks import load_task

RESULTS, IMAGES, PICTURES = "predictions.json", "images.json", "pictures"
TOLD = {"file_name", "answered_by", "deferral_score", "drawn"}
"""What `images.json` tells of every picture, by which one is known."""
SAMPLES, FEW = 4, 8
MOST_BYTES = 160  # of a picture's name in the name of its annotated copy


@on_threads("run")
def predict(
    config: Settings,
    pictures: Sequence[str],
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    least_score: float = 0.3,
) -> dict[str, Any]:
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
    """
    check_letters()
    scoring, chosen = choose_threshold(config, threshold, rate)
    files = find_pictures(pictures)
    _check_apart(files, Path(out))
    check_space(Path(out), bytes_of_copies(_spread(files, FEW), len(files)))
    with replaced_folder(Path(out), (RESULTS, PICTURES, IMAGES), "predict", _earlier_in(Path(out))) as folder:
        live = build_live(config, scoring, chosen, lambda: _samples(files), partial(_spread, files))
        look = _Look(load_task(config.task).show, live.named, least_score, scoring.name, chosen)
        start, meter = perf_counter(), Meter()
        count, deferred = _answer_all(live, files, look, _plan(config), folder)
        seconds, load = perf_counter() - start, meter.lap()
    return {
        "images": count,
        "unreadable": len(files) - count,
        "deferred": deferred,
        "deferral_rate": deferred / count,
        "score": scoring.name,
        "threshold": chosen if abs(chosen) != float("inf") else None,
        "seconds": seconds,
        "pictures_per_second": count / seconds,
        "load": load.to_dict(),
        "out": str(out),
    }


def _earlier_in(folder: Path) -> Callable[[Path], bool]:
    """Whether an entry of the folder is of an earlier `predict`, and no user's own; `images.json` tells."""
    drawn = _drawn(folder / IMAGES)

    def is_earlier(entry: Path) -> bool:
        if entry.name == PICTURES:
            return entry.is_dir() and drawn.issuperset(picture.name for picture in entry.iterdir())
        return entry.is_file() and bool(drawn)

    return is_earlier


def _drawn(images: Path) -> set[str]:
    """The annotated copies that an `images.json` tells of; none where it is another file, or not there."""
    names = set()
    try:
        with images.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip() not in ("[", "]"):
                    entry = json.loads(line.rstrip(",\n"))
                    if not isinstance(entry, dict) or not entry.keys() >= TOLD:
                        return set()
                    names.add(str(entry["drawn"]).removeprefix(f"{PICTURES}/"))
    except (OSError, ValueError, RecursionError):
        return set()
    return names


def _check_apart(files: Sequence[Path], out: Path) -> None:
    """Raises ConfigError where `out`, which is replaced as a whole, holds a picture that is asked for."""
    place = os.path.realpath(out)
    inside = (path for path in files if Path(os.path.realpath(path)).is_relative_to(place))
    if out.is_dir() and (path := next(inside, None)):
        raise ConfigError(
            f"Expected pictures outside of --out, got `{path}` in `{out}`, which is replaced. Choose another "
            "--out."
        )


def _answer_all(
    live: Live, files: Sequence[Path], look: "_Look", plan: Plan, folder: Path
) -> tuple[int, int]:
    """Answer and write all pictures; how many there were, and how many of them were deferred."""
    writable_folder(folder / PICTURES)
    count = deferred = 0
    with picture_warnings(), _writing(folder, files, look, plan.workers) as writer:
        stream = answers(live.joint, range(len(files)), lambda at: open_picture(files[at]), plan, _name)
        with closing(stream), tqdm(total=len(files), unit="img", desc="predicting") as bar:
            for answer in stream:
                writer.add(answer)
                count += 1
                deferred += answer.deferred
                bar.update()
                bar.set_postfix_str(f"{100 * deferred / count:.1f} % to the teacher", refresh=False)
        _check_any(count, files)
    return count, deferred


def _plan(config: Settings) -> Plan:
    run = config.run
    return Plan(
        run.batch_size,
        run.teacher_batch or run.batch_size,
        run.workers,
        run.patience_ms,
        run.overlap,
        run.regroup,
    )


def _samples(files: Sequence[Path]) -> list[Any]:
    """The first pictures that can be decoded; runtimes are tried on them."""
    found: list[Any] = []
    for path in files:
        with suppress(InvalidInput):  # named when its turn comes
            found.append(open_picture(path))
        if len(found) == SAMPLES:
            break
    _check_any(len(found), files)
    return found


def _spread(files: Sequence[Path], count: int) -> Iterator[Any]:
    """So many pictures at even distances, or all; one that cannot be decoded is named when its turn comes."""
    for place in sorted({len(files) * step // count for step in range(count)}):
        with suppress(InvalidInput):
            yield open_picture(files[place])


def _check_any(count: int, files: Sequence[Path]) -> None:
    if not count:
        raise InvalidInput(f"Expected a picture that can be decoded, got none among {len(files)}.")


def _name(place: int, error: InvalidInput) -> None:
    tqdm.write(f"Left out: {error}", file=sys.stderr)


@dataclass(frozen=True)
class _Look:
    """What is drawn of an answer."""

    answers: Any
    named: Any
    least_score: float
    score: str
    threshold: float

    def write(self, answer: Answer[int, Any], path: Path) -> None:
        who, sign, color = ("teacher", ">", TEACHER) if answer.deferred else ("student", "\u2264", STUDENT)
        text = f"{who}   {self.score} {answer.score:.3f} {sign} {self.threshold:.3f}"
        drawn = self.answers.annotate(answer.image, answer.prediction, self.named, self.least_score)
        with atomic_write(path) as temporary:
            with_strip(drawn, text, color).save(temporary, "JPEG", quality=QUALITY)


@contextmanager
def _writing(folder: Path, files: Sequence[Path], look: _Look, workers: int) -> Iterator["_Writer"]:
    """Annotated pictures, and both JSON files as they grow.

    Args:
        workers: threads that draw; 0 draws in the calling thread.
    """
    with ExitStack() as stack:
        results, images = (
            _List(stack.enter_context(stack.enter_context(atomic_write(folder / name)).open("w")))
            for name in (RESULTS, IMAGES)
        )
        pool = ThreadPoolExecutor(workers) if workers else None
        if pool:
            stack.callback(pool.shutdown, cancel_futures=True)
        writer = _Writer(folder, files, look, results, images, pool, 2 * workers)
        yield writer
        writer.finish()


@dataclass
class _Writer:
    folder: Path
    files: Sequence[Path]
    look: _Look
    results: "_List"
    images: "_List"
    pool: ThreadPoolExecutor | None
    most_drawn: int
    drawn: deque[Future[None]] = field(default_factory=deque)

    def finish(self) -> None:
        self._await_all_but(0)
        self.results.close()
        self.images.close()

    def add(self, answer: Answer[int, Any]) -> None:
        place, look = answer.item, self.look
        name = f"{PICTURES}/{place + 1:06d}_{_shortened(self.files[place].stem)}.jpg"
        if self.pool:
            self._await_all_but(self.most_drawn - 1)
            self.drawn.append(self.pool.submit(look.write, answer, self.folder / name))
        else:
            look.write(answer, self.folder / name)
        for entry in look.answers.to_entries(answer.prediction, place + 1, look.named):
            self.results.add(entry)
        self.images.add(
            {
                "id": place + 1,
                "file_name": str(self.files[place]),
                "width": answer.image.width,
                "height": answer.image.height,
                "answered_by": "teacher" if answer.deferred else "student",
                "deferral_score": answer.score,
                "drawn": name,
            }
        )

    def _await_all_but(self, count: int) -> None:
        while len(self.drawn) > count:
            self.drawn.popleft().result()


def _shortened(stem: str) -> str:
    """As much of a name as fits into one: systems count its bytes, of which a letter has up to four."""
    while len(os.fsencode(stem)) > MOST_BYTES:
        stem = stem[:-1]
    return stem


class _List:
    """A JSON list written entry by entry."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.before = file, "["

    def add(self, entry: Any) -> None:
        self.file.write(self.before + "\n" + json.dumps(entry, allow_nan=False))
        self.before = ","

    def close(self) -> None:
        self.file.write("[]\n" if self.before == "[" else "\n]\n")
