"""What an evaluation of detectors leaves besides its report: COCO result files, and a gallery of pictures.

Each picture of the gallery is one strip: the annotated objects, the student's boxes, the teacher's boxes.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.tradeoff import mixture
from ebjr_det.core.types import FloatArray, Matches, PairedRun
from ebjr_det.io.files import atomic_write, writable_folder, write_text
from ebjr_det.io.lettering import with_strip
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.coco.results import detections_of, write_annotations, write_results
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.detections import to_corners
from ebjr_det.tasks.detection.draw import draw_boxes, label
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.replay_pictures import pictures_of as pictures_of

GALLERY = "gallery"
PICTURES = 4  # of a group
PANEL, GAP = 440, 8  # pixels
LEAST_SCORE, FEWEST = 0.3, 3  # boxes from this score on are drawn, and at least so many
RIGHT, WRONG, CROWD, OBJECT = "#0072B2", "#D55E00", "#777777", "#3B7A57"
LEGEND = (
    "Blue boxes match an annotated object at an IoU of 0.5, orange ones none, grey ones a crowd. An error is "
    "an orange box, or an object that no drawn box matches. AP can rise or fall against what is seen: it "
    "ranks the boxes of all pictures together by their scores, the faint ones too."
)


def write_results_of(folder: Path, data: DetectionSet, run: PairedRun, defer: NDArray[np.bool_]) -> None:
    """`annotations.json.gz`, and the detections of student, teacher and pair, of all images of the run."""
    joint = mixture(run, AveragePrecision(), defer)
    annotations = data.annotations.subset(run.image_ids)
    for name, matches in (("student", run.student), ("teacher", run.teacher), ("joint", joint)):
        write_results(matches, annotations.image_ids, annotations.category_ids, folder / f"{name}.json.gz")
    write_annotations(annotations, folder / "annotations.json.gz")


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
    strips = _Strips(folder, data, run, decision, _tally(run.student), _tally(run.teacher), reward)
    groups = [
        {
            "title": group.title,
            "note": group.note,
            "pictures": list(islice(strips.of(group), PICTURES)),
        }
        for group in strips.groups()
    ]
    write_text(folder / "gallery.json", json.dumps({"legend": LEGEND, "groups": groups}, indent=1))


class Tally(NamedTuple):
    """What the drawn boxes of each image are [images each]."""

    drawn: NDArray[np.intp]
    right: NDArray[np.intp]
    wrong: NDArray[np.intp]
    missed: NDArray[np.intp]

    @property
    def errors(self) -> NDArray[np.intp]:
        """Drawn boxes that match nothing, and objects that none matches."""
        return self.wrong + self.missed


def _tally(matches: Matches) -> Tally:
    images = len(matches["counts"])
    owners = np.repeat(np.arange(images), matches["counts"])
    order = np.lexsort((-matches["score"], owners))
    ranks = np.arange(len(owners)) - np.searchsorted(owners, owners)
    drawn = order[(matches["score"][order] >= LEAST_SCORE) | (ranks < FEWEST)]
    matched, ignored = ((matches[key][drawn] & np.uint64(1)).astype(bool) for key in ("matched", "ignored"))
    drawn_boxes, right, wrong = (
        np.bincount(owners[drawn][rows], minlength=images)
        for rows in (slice(None), matched & ~ignored, ~matched & ~ignored)
    )
    objects = matches["truths"][:, :, 0].sum(axis=1).astype(np.intp)
    return Tally(drawn_boxes, right, wrong, objects - right)


class _Strips(NamedTuple):
    """All that a gallery's strips are made of."""

    folder: Path
    data: DetectionSet
    run: PairedRun
    decision: RouterDecision
    student: Tally
    teacher: Tally
    reward: FloatArray

    def groups(self) -> list[Group]:
        """By the errors that a person sees; images of the same gain by what they change in AP."""
        gain = self.student.errors - self.teacher.errors
        best, worst = np.lexsort((-self.reward, -gain)), np.lexsort((self.reward, gain))
        doubt = np.argsort(-self.decision.scores, kind="stable")
        return [
            Group("gained", "Gained most", "The teacher makes fewer errors.", best[gain[best] > 0]),
            Group("lost", "Lost most", "The teacher makes more errors.", worst[gain[worst] < 0]),
            Group("hardest", "Hardest", "The student doubts most here.", doubt),
        ]  # fmt: skip

    def of(self, group: Group) -> Iterator[dict[str, str | int]]:
        """Strips of a group, written one after the other; pictures that are not there have none."""
        number = 1
        for image in group.images.tolist():
            if entry := self.write(f"{group.name}-{number}", image):
                number += 1
                yield entry

    def write(self, name: str, image: int) -> dict[str, str | int] | None:
        """Annotated objects and both models' boxes side by side; nothing where the picture is gone."""
        run, decision, data = self.run, self.decision, self.data
        index = data.image_ids.index(run.image_ids[image])
        try:
            picture = data.load(index)
        except InvalidInput:  # it was there during the run
            return None
        names = data.annotations.class_names
        models = ("student", run.student, self.student), ("teacher", run.teacher, self.teacher)
        panels = [_panel(picture, image, names, *model) for model in models]
        objects = _objects(picture, data.annotations.truths[index], names)
        strip = _side_by_side([objects, *panels])
        file = f"{GALLERY}/{name}.jpg"
        with atomic_write(self.folder / file) as temporary:
            strip.save(temporary, "JPEG", quality=88)
        model = "teacher" if decision.defer[image] else "student"
        caption = (
            f"{run.image_ids[image]}: answered by the {model}, deferral score {decision.scores[image]:.4g} "
            f"(threshold {decision.threshold:.4g}), errors {self.student.errors[image]} by the student and "
            f"{self.teacher.errors[image]} by the teacher, AP {1e3 * self.reward[image]:+.3f} thousandths by "
            "the teacher"
        )
        size = {"width": strip.width, "height": strip.height}
        return {"image_id": run.image_ids[image], "file": file, "caption": caption, **size}


def _side_by_side(panels: Sequence[Image.Image]) -> Image.Image:
    strip = Image.new("RGB", (sum(p.width for p in panels) + 2 * GAP, max(p.height for p in panels)), "white")
    left = 0
    for panel in panels:
        strip.paste(panel, (left, 0))
        left += panel.width + GAP
    return strip


def _objects(picture: Image.Image, truth: Truth, names: Sequence[str]) -> Image.Image:
    texts = [
        label(names[index]) + " (crowd)" * bool(crowd)
        for index, crowd in zip(truth.labels, truth.crowd, strict=True)
    ]
    colors = [CROWD if crowd else OBJECT for crowd in truth.crowd]
    drawn = draw_boxes(picture, to_corners(truth.boxes), texts, colors, side=PANEL)
    return with_strip(drawn, f"{len(texts)} annotated", OBJECT)


def _panel(
    picture: Image.Image, image: int, names: Sequence[str], model: str, matches: Matches, tally: Tally
) -> Image.Image:
    drawn, right, wrong, missed = (int(column[image]) for column in tally)
    answer, matched = detections_of(matches, image)
    _, ignored = detections_of({**matches, "matched": matches["ignored"]}, image)
    labels = zip(answer.labels[:drawn].tolist(), answer.scores[:drawn].tolist(), strict=True)
    texts = [label(names[index], score) for index, score in labels]
    colors = [
        CROWD if crowd else RIGHT if hit else WRONG
        for hit, crowd in zip(matched[:drawn], ignored[:drawn], strict=True)
    ]
    panel = draw_boxes(picture, answer.boxes[:drawn], texts, colors, side=PANEL)
    text = f"{model}: {drawn} of {len(answer)} boxes, {right} right, {wrong} wrong, {missed} missed"
    return with_strip(panel, text, "#444444")
