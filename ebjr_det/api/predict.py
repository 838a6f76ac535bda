"""`predict`: the live pair on pictures of one's own."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from tqdm.auto import tqdm

from ebjr_det.api.live import build_live, choose_threshold
from ebjr_det.config import EvaluateConfig
from ebjr_det.errors import InvalidInput
from ebjr_det.files import atomic_write, writable_folder
from ebjr_det.joint import JointModel, JointOutput
from ebjr_det.loader import batches_from
from ebjr_det.overlay import STUDENT, TEACHER
from ebjr_det.pictures import find_pictures, open_picture, with_strip
from ebjr_det.tasks import room

RESULTS, IMAGES, PICTURES = "predictions.json", "images.json", "pictures"


@dataclass(frozen=True)
class _Files:
    """Pictures of one's own as `loader.Images`; their targets are their places."""

    paths: tuple[Path, ...]
    skip_unreadable: bool = True

    @property
    def image_ids(self) -> tuple[str, ...]:
        return tuple(map(str, range(1, len(self.paths) + 1)))

    def load(self, index: int) -> Any:
        return open_picture(self.paths[index])

    def target(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return len(self.paths)


def predict(
    config: EvaluateConfig,
    pictures: Sequence[str],
    out: str | Path,
    *,
    threshold: float | None = None,
    rate: float | None = None,
    least_score: float = 0.3,
) -> dict[str, Any]:
    """Answer pictures with the live pair: annotated copies and JSON in a folder.

    `predictions.json` is a COCO result file (all boxes; image ids count from 1 in the order of the pictures),
    `images.json` tells of each picture its file, size, deferral score and who answered. Memory does not grow
    with the number of pictures. One that cannot be decoded is named and left out.

    Args:
        pictures: files, folders and patterns.
        out: a folder; earlier predictions in it are replaced.
        threshold: instead of `router.threshold`.
        rate: instead of both, the deferral rate that a fitted router's threshold had at its fit.
        least_score: of the boxes that are drawn; the JSON holds all.

    Raises:
        ConfigError: no threshold. InvalidInput: no picture, or none that can be decoded.
    """
    scoring, chosen = choose_threshold(config, threshold, rate)
    files = _Files(tuple(find_pictures(pictures)))
    live = build_live(config, scoring, chosen)
    folder = writable_folder(Path(out))
    writable_folder(folder / PICTURES)
    writer = _Writer(config.task, live.named, folder, files, least_score, scoring.name)
    count = deferred = 0
    with writer, tqdm(total=len(files), unit="img", desc="predicting") as bar:
        for paths, output in _answers(live.joint, files, config):
            writer.add(paths, output)
            count += len(paths)
            deferred += int(output.decision.defer.sum())
            bar.update(len(paths))
            bar.set_postfix_str(f"{100 * deferred / count:.1f} % to the teacher", refresh=False)
        if not count:
            raise InvalidInput(f"Expected a picture that can be decoded, got none among {len(files)}.")
    return {
        "images": count,
        "unreadable": len(files) - count,
        "deferred": deferred,
        "deferral_rate": deferred / count,
        "score": scoring.name,
        "threshold": chosen if abs(chosen) != float("inf") else None,
        "out": str(folder),
    }


def _answers(
    joint: JointModel, files: _Files, config: EvaluateConfig
) -> Iterator[tuple[list[tuple[int, Any]], JointOutput]]:
    """Batch by batch: the place and the picture of each image, and the pair's answers."""
    run = config.run
    stream = batches_from(
        0,
        files,
        (joint.student.preprocess, _itself),
        run.batch_size,
        run.workers,
        collate=list,
    )
    for _, inputs, pictures, places in stream:
        output = joint.answer(inputs, partial(_preprocessed, joint, pictures))
        yield list(zip(places, pictures, strict=True)), output


def _preprocessed(joint: JointModel, pictures: Sequence[Any], index: int) -> Any:
    return joint.teacher.preprocess(pictures[index])


def _itself(picture: Any) -> Any:
    return picture


class _Writer:
    """Annotated pictures at once, and both JSON files as they grow; these appear when all is done."""

    def __init__(
        self, task: str, named: Any, folder: Path, files: _Files, least_score: float, score: str
    ) -> None:
        self.answers, self.named, self.folder, self.files = room(task, "answers"), named, folder, files
        self.least_score, self.score = least_score, score
        self.stack = ExitStack()

    def __enter__(self) -> "_Writer":
        self.results, self.images = (
            _List(
                self.stack.enter_context(self.stack.enter_context(atomic_write(self.folder / name)).open("w"))
            )
            for name in (RESULTS, IMAGES)
        )
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            self.results.close()
            self.images.close()
        self.stack.__exit__(*error)

    def add(self, pictures: Sequence[tuple[int, Any]], output: JointOutput) -> None:
        decision = output.decision
        for (place, picture), answer, score, defer in zip(
            pictures, output.predictions, decision.scores.tolist(), decision.defer.tolist(), strict=True
        ):
            who, sign = ("teacher", ">") if defer else ("student", "\u2264")
            text = f"{who}   {self.score} {score:.3f} {sign} {decision.threshold:.3f}"
            drawn = self.answers.annotate(picture, answer, self.named, self.least_score)
            drawn = with_strip(drawn, text, TEACHER if defer else STUDENT)
            name = f"{PICTURES}/{place + 1:06d}_{self.files.paths[place].stem[:80]}.jpg"
            with atomic_write(self.folder / name) as temporary:
                drawn.save(temporary, "JPEG", quality=90)
            for entry in self.answers.to_entries(answer, place + 1, self.named):
                self.results.add(entry)
            self.images.add(
                {
                    "id": place + 1,
                    "file_name": str(self.files.paths[place]),
                    "width": picture.width,
                    "height": picture.height,
                    "answered_by": who,
                    "deferral_score": score,
                    "drawn": name,
                }
            )


class _List:
    """A JSON list written entry by entry."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.before = file, "["

    def add(self, entry: Any) -> None:
        self.file.write(self.before + "\n" + json.dumps(entry, allow_nan=False))
        self.before = ","

    def close(self) -> None:
        self.file.write("[]\n" if self.before == "[" else "\n]\n")
