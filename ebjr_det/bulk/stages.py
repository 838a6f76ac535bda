"""The two stages of a shard: the student answers all its pictures, the teacher those that are deferred.

Batches are cut inside a shard, so that no bit of an answer hangs on who works on it, or on what else he does.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.bulk.manifest import Manifest
from ebjr_det.bulk.reader import PictureReader
from ebjr_det.bulk.table import PictureAnswer, ShardCounts, to_table, write_shard
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel
from ebjr_det.core.types import Logits, Opaque, Output
from ebjr_det.inference.live import Live
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Answer, Plan
from ebjr_det.io.pictures import picture_warnings
from ebjr_det.tasks import load_task

if TYPE_CHECKING:
    from PIL.Image import Image

    from ebjr_det.bulk.job import Job


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
        joint = live.joint
        self.joint = JointModel(joint.student, Later(), joint.score, joint.threshold, joint.front)
        self.plan, self.manifest, self.read = plan, manifest, PictureReader()

    def __call__(self, index: int) -> Shard:
        """The shard of that number. Raises InvalidInput for logits that are not finite."""
        pictures = [PictureAnswer(row) for row in self.manifest.load(index)]
        for answer in _answers(self.joint, pictures, self.plan, self.read):
            picture = answer.item
            picture.score, picture.deferred, picture.in_front = answer.score, answer.deferred, answer.in_front
        return Shard(index, pictures)


class TeacherStage:
    """The teacher on the deferred pictures of a shard, which is then written.

    Args:
        live: the teacher alone (`inference.live.build_teacher`).
        fronted: whether the pair has a router in front of its student.
    """

    def __init__(self, live: Live, task: str, plan: Plan, job: "Job", fronted: bool) -> None:
        self.joint, self.named, self.tensors = live.joint, live.named, load_task(task).tensors
        self.plan, self.job, self.fronted, self.read = plan, job, fronted, PictureReader()

    def __call__(self, shard: Shard) -> ShardCounts:
        """Write the shard's file."""
        deque(_answers(self.joint, [p for p in shard.pictures if p.deferred], self.plan, self.read), 0)
        manifest, counts = self.job.manifest, ShardCounts.of(shard.pictures)
        first = shard.index * manifest.shard
        table = to_table(shard.pictures, first, self.tensors, self.named, self.fronted)
        write_shard(manifest.storage, shard.index, table, self.job.sha256, counts)
        return counts


class Later:
    """A teacher in the stage before its own: it looks at no picture, and has no answer yet."""

    name = "teacher"

    def preprocess(self, image: Opaque) -> Opaque:
        """No input for a model."""

    def __call__(self, inputs: Sequence[Opaque]) -> Output:
        """No answer to each."""
        return Output([None] * len(inputs), Logits.one_row(np.zeros((len(inputs), 1))))


def _answers(
    joint: JointModel, pictures: Sequence[PictureAnswer], plan: Plan, read: PictureReader
) -> "Iterator[Answer[PictureAnswer, Image]]":
    """Fill in what a pair says to pictures, and why one cannot be read; decoded pictures are not kept."""

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
            yield answer
