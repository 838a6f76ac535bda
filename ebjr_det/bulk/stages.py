"""The two stages of a shard: the student answers all its pictures, the teacher those that are deferred.

Batches are cut inside a shard, so that no bit of an answer hangs on who works on it, or on what else he does.
"""

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.bulk.manifest import Manifest
from ebjr_det.bulk.reader import PictureReader
from ebjr_det.bulk.table import PictureAnswer, ShardCounts, to_table, write_shard
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.router import decide
from ebjr_det.inference.live import Live
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.pictures import picture_warnings
from ebjr_det.tasks import load_task

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Shard:
    """A shard on its way: its number and what is known of its pictures."""

    index: int
    pictures: list[PictureAnswer]


class StudentStage:
    """The student on all pictures of a shard, and the router's decision on each.

    Args:
        live: the pair without its teacher, at the threshold that decides.
        plan: batches and threads.
    """

    def __init__(self, live: Live, plan: Plan, manifest: Manifest) -> None:
        self.joint, self.threshold = _keeping(live.joint), live.joint.threshold
        self.plan, self.manifest, self.read = plan, manifest, PictureReader()

    def __call__(self, index: int) -> Shard:
        """The shard of that number. Raises InvalidInput for logits that are not finite."""
        pictures = [PictureAnswer(row) for row in self.manifest.load(index)]
        _answer(self.joint, pictures, self.plan, self.read)
        readable = [picture for picture in pictures if not picture.error]
        scores = np.array([picture.score for picture in readable], dtype=np.float64)
        deferred = decide(scores, self.threshold).defer if readable else ()
        for picture, defer in zip(readable, deferred, strict=True):
            if defer:
                picture.deferred, picture.prediction = True, None
        return Shard(index, pictures)


class TeacherStage:
    """The teacher on the deferred pictures of a shard, which is then written.

    Args:
        live: the teacher alone (`inference.live.build_teacher`).
        job: digest of the job.
    """

    def __init__(self, live: Live, task: str, plan: Plan, manifest: Manifest, job: str) -> None:
        self.joint, self.named, self.tensors = live.joint, live.named, load_task(task).tensors
        self.plan, self.manifest, self.job, self.read = plan, manifest, job, PictureReader()

    def __call__(self, shard: Shard) -> ShardCounts:
        """Write the shard's file."""
        _answer(self.joint, [p for p in shard.pictures if p.deferred], self.plan, self.read)
        table = to_table(shard.pictures, shard.index * self.manifest.shard, self.tensors, self.named)
        counts = ShardCounts.of(shard.pictures)
        write_shard(self.manifest.storage, shard.index, table, self.job, counts)
        return counts


def _keeping(joint: JointModel) -> JointModel:
    """A joint model of this student and score that defers nothing."""
    return JointModel(joint.student, joint.teacher, joint.score, math.inf)


def _answer(joint: JointModel, pictures: Sequence[PictureAnswer], plan: Plan, read: PictureReader) -> None:
    """Fill in what a model says to pictures, and why one cannot be read; decoded pictures are not kept."""

    def load(picture: PictureAnswer) -> "Image":
        return read(picture.row)

    def left_out(picture: PictureAnswer, error: InvalidInput) -> None:
        picture.error, picture.deferred = str(error), False

    read.fetch(picture.row for picture in pictures)
    with picture_warnings(), closing(answers(joint, pictures, load, plan, left_out)) as stream:
        for answer in stream:
            picture = answer.item
            picture.prediction = answer.prediction
            picture.width, picture.height = answer.image.width, answer.image.height
            if not picture.deferred:
                picture.score = answer.score
