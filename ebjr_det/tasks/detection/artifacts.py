"""What an evaluation of detectors leaves besides its report: COCO result files, and a gallery of pictures.

Each picture of the gallery is one strip: the annotated objects, the student's boxes, the teacher's boxes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.tradeoff import mixture
from ebjr_det.core.types import FloatArray, Matches, PairedRun
from ebjr_det.io.lettering import with_strip
from ebjr_det.tasks.detection.coco.annotations import Truth
from ebjr_det.tasks.detection.coco.results import detections_of, write_annotations, write_results
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.detections import to_corners
from ebjr_det.tasks.detection.draw import draw_boxes, label
from ebjr_det.tasks.detection.metric import AveragePrecision
from ebjr_det.tasks.detection.replay_pictures import pictures_of as pictures_of
from ebjr_det.tasks.gallery import Group, decision_text, write_groups

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


def write_gallery(folder: Path, data: DetectionSet, run: PairedRun, decision: RouterDecision) -> None:
    """`gallery.json` and the pictures it names, of the images that are reported.

    Args:
        run: the reported images; `decision`: on them, in their order.
    """
    reward = AveragePrecision().mixtures(run.student, run.teacher).reward()
    strips = _Strips(data, run, decision, _tally(run.student), _tally(run.teacher), reward)
    write_groups(folder, LEGEND, strips.groups(), run, strips.draw, PICTURES)


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

    def draw(self, image: int) -> tuple[Image.Image, str] | None:
        """Annotated objects and both models' boxes side by side; nothing where the picture is gone."""
        run, data = self.run, self.data
        index = data.image_ids.index(run.image_ids[image])
        try:
            picture = data.load(index)
        except InvalidInput:  # it was there during the run
            return None
        names = data.annotations.class_names
        models = ("student", run.student, self.student), ("teacher", run.teacher, self.teacher)
        panels = [_panel(picture, image, names, *model) for model in models]
        objects = _objects(picture, data.annotations.truths[index], names)
        caption = (
            f"{run.image_ids[image]}: {decision_text(self.decision, image)}, errors "
            f"{self.student.errors[image]} by the student and {self.teacher.errors[image]} by the teacher, "
            f"AP {1e3 * self.reward[image]:+.3f} thousandths by the teacher"
        )
        return _side_by_side([objects, *panels]), caption


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
