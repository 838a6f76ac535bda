"""What an evaluation of detectors leaves besides its report: COCO result files, and a gallery of pictures.

Each picture of the gallery is one strip: the annotated objects, the student's boxes, the teacher's boxes.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.errors import InvalidInput
from ebjr_det.files import atomic_write, writable_folder, write_text
from ebjr_det.pictures import with_strip
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.draw import draw_boxes
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.results import detections_of, write_annotations, write_results
from ebjr_det.types import FloatArray, Matches, PairedRun, RouterDecision

GALLERY = "gallery"
EACH = 4  # pictures of a group
PANEL, GAP = 440, 8  # pixels
SHOWN, FEWEST = 0.3, 3  # boxes from this score on are drawn, and at least so many
RIGHT, WRONG, OBJECT = "#0072B2", "#D55E00", "#3B7A57"


def write_results_of(folder: Path, data: DetectionSet, run: PairedRun, defer: NDArray[np.bool_]) -> None:
    """`annotations.json.gz`, and the detections of student, teacher and pair, of all images of the run."""
    task, ids = AveragePrecision(), data.annotations.category_ids
    images = np.arange(len(run))
    both = {name: np.concatenate([run.student[name], run.teacher[name]]) for name in run.student}
    joint = task.take(both, np.where(defer, images + len(run), images))
    for name, matches in (("student", run.student), ("teacher", run.teacher), ("joint", joint)):
        write_results(matches, run.image_ids, ids, folder / f"{name}.json.gz")
    seen = data.annotations.subset([int(image) for image in run.image_ids])
    write_annotations(seen, folder / "annotations.json.gz")


class Group(NamedTuple):
    """Pictures of a kind: what it is called, why they are in it, and which they are, best example first."""

    name: str
    title: str
    note: str
    images: NDArray[np.intp]


def write_gallery(folder: Path, data: DetectionSet, run: PairedRun, decision: RouterDecision) -> None:
    """`gallery.json` and the pictures it names, of the images that are reported.

    Args:
        run: the reported images; `decision`: on them, in their order.
    """
    shutil.rmtree(folder / GALLERY, ignore_errors=True)
    writable_folder(folder / GALLERY)
    reward = AveragePrecision().mixtures(run.student, run.teacher).reward()
    groups = [
        {
            "title": group.title,
            "note": group.note,
            "pictures": [
                entry
                for number, image in enumerate(group.images, start=1)
                if (
                    entry := _write_strip(
                        folder, f"{group.name}-{number}", data, run, decision, int(image), reward
                    )
                )
            ],
        }
        for group in _groups(reward, decision)
    ]
    legend = "Blue boxes match an annotated object at an IoU of 0.5, orange ones none."
    write_text(folder / "gallery.json", json.dumps({"legend": legend, "groups": groups}, indent=1))


def _groups(reward: FloatArray, decision: RouterDecision) -> list[Group]:
    best, worst = np.argsort(-reward, kind="stable"), np.argsort(reward, kind="stable")
    doubt = np.argsort(-decision.scores, kind="stable")
    return [
        Group("gained", "Gained most", "The teacher raises AP most here.", best[reward[best] > 0][:EACH]),
        Group("lost", "Lost most", "The teacher lowers AP most here.", worst[reward[worst] < 0][:EACH]),
        Group("hardest", "Hardest", "The student doubts most here.", doubt[:EACH]),
    ]  # fmt: skip


def _write_strip(
    folder: Path,
    name: str,
    data: DetectionSet,
    run: PairedRun,
    decision: RouterDecision,
    image: int,
    reward: FloatArray,
) -> dict[str, Any] | None:
    place = data.image_ids.index(run.image_ids[image])
    try:
        picture = data.load(place)
    except InvalidInput:  # it was there during the run
        return None
    truth, names = data.annotations.truths[place], data.annotations.class_names
    corners = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
    texts = [
        names[label] + " (crowd)" * bool(crowd)
        for label, crowd in zip(truth.labels, truth.crowd, strict=True)
    ]
    panels = [
        with_strip(
            draw_boxes(picture, corners, texts, [OBJECT] * len(texts), side=PANEL),
            f"{len(texts)} annotated",
            OBJECT,
        ),
        _panel(picture, run.student, image, names, "student"),
        _panel(picture, run.teacher, image, names, "teacher"),
    ]
    strip = Image.new("RGB", (sum(p.width for p in panels) + 2 * GAP, max(p.height for p in panels)), "white")
    at = 0
    for panel in panels:
        strip.paste(panel, (at, 0))
        at += panel.width + GAP
    file = f"{GALLERY}/{name}.jpg"
    with atomic_write(folder / file) as temporary:
        strip.save(temporary, "JPEG", quality=88)
    who = "teacher" if decision.defer[image] else "student"
    caption = (
        f"{run.image_ids[image]}: answered by the {who}, deferral score {decision.scores[image]:.4g} "
        f"(threshold {decision.threshold:.4g}), AP {1e3 * reward[image]:+.3f} thousandths by the teacher"
    )
    size = {"width": strip.width, "height": strip.height}
    return {"image_id": run.image_ids[image], "file": file, "caption": caption, **size}


def _panel(picture: Image.Image, matches: Matches, image: int, names: Sequence[str], who: str) -> Image.Image:
    found, right = detections_of(matches, image)
    shown = max(int((found.scores >= SHOWN).sum()), min(FEWEST, len(found)))
    labels = zip(found.labels[:shown].tolist(), found.scores[:shown].tolist(), strict=True)
    texts = [f"{names[label]} {score:.2f}" for label, score in labels]
    colors = [RIGHT if matched else WRONG for matched in right[:shown]]
    drawn = draw_boxes(picture, found.boxes[:shown], texts, colors, side=PANEL)
    return with_strip(
        drawn, f"{who}: {shown} of {len(found)} boxes, {int(right[:shown].sum())} right", "#444444"
    )
