"""Average precision of any mixture of two models' records, at every wanted number of deferred images.

Rows of both models are sorted by class and score once. A mixture is then a rule that says which rows are
there: a row of the student while its image is kept, one of the teacher's once it is deferred. Deferring one
more image moves its few rows in and out of a tally of their class, and a walk over the tally gives precision
and recall. Only classes of which a newly deferred image has a row are walked again, so every operating point
is exact and cheap. The numbers are those of pycocotools' `accumulate` and `summarize`.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Array, Copies, FloatArray, Matches
from ebjr_det.io.threads import thread_count
from ebjr_det.tasks.detection.coco.lanes import IOUS
from ebjr_det.tasks.detection.coco.precision import (
    EVERYWHERE,
    Slots,
    least_hits,
    single_moves,
    walk_classes,
)

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in pycocotools' order."""


@dataclass(frozen=True)
class Rows:
    """Two models' match records on N images as rows sorted by class, then score, then image.

    Attributes:
        starts: [classes + 1] first row of each class.
        image, rank, matched, ignored: [rows] of the records; `teacher`: [rows] whose row it is.
        truths: [N, classes, 4] objects that count.
    """

    starts: NDArray[np.intp]
    image: NDArray[np.int32]
    teacher: NDArray[np.bool_]
    rank: NDArray[np.uint8]
    matched: NDArray[np.uint64]
    ignored: NDArray[np.uint64]
    truths: NDArray[np.uint16]
    areas: dict[int, Slots] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, student: Matches, teacher: Matches) -> "Rows":
        """Sort the records of two models on the same images."""
        models = student, teacher
        image = np.concatenate([np.repeat(np.arange(len(m["counts"])), m["counts"]) for m in models])
        names = ("score", "label", "rank", "matched", "ignored")
        score, label, rank, matched, ignored = (np.concatenate([m[name] for m in models]) for name in names)
        order = np.lexsort((rank, image, -score, label))
        starts = np.searchsorted(label[order], np.arange(student["truths"].shape[1] + 1))
        of_teacher = np.arange(len(order)) >= student["counts"].sum()
        return cls(
            starts, image[order].astype(np.int32), of_teacher[order], rank[order], matched[order],
            ignored[order], student["truths"],
        )  # fmt: skip

    @property
    def images(self) -> int:
        """How many images there are, N."""
        return len(self.truths)

    def stats(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: Copies | None = None,
        *,
        full: bool = True,
    ) -> FloatArray:
        """The twelve numbers by class, [classes, mixtures, 12]; -1 where a class has no such object.

        Args:
            order: [N] images in the order of deferral.
            deferred: ascending, how many of them are the teacher's in each mixture; by default 0..N.
            copies: [N] how often each image counts, by default once, or its weight, of which about ten digits
                count; see `_exact`.
            full: False leaves everything but AP, AP50 and AP75 at -1 and is about four times as fast.
        """
        counts = np.arange(self.images + 1) if deferred is None else np.asarray(deferred)
        turn = np.empty(self.images, dtype=np.int32)  # the first mixture in which an image is the teacher's
        turn[order] = np.searchsorted(counts, np.arange(self.images), side="right")
        times = np.ones(self.images, dtype=np.int32) if copies is None else self._exact(copies)
        real = np.issubdtype(times.dtype, np.floating)
        judged = self.truths if full else self.truths[:, :, :1]  # areas
        truths = np.einsum("i,ika->ka", times, judged, dtype=np.float64 if real else np.int64)
        out = np.full((len(truths), len(counts), len(STATS)), -1.0)
        needed = least_hits(truths)
        for a in range(truths.shape[1]):
            # Contiguous whatever the number of areas, so that one kind of arrays is compiled for.
            of_area = (np.ascontiguousarray(numbers[:, a]) for numbers in (truths, needed))
            walk_classes(self.slots(a), turn, times, *of_area, a, out)
        return out

    def slots(self, a: int) -> Slots:
        """The rows as they are judged in area range `a`, made once."""
        if a not in self.areas:
            self.areas[a] = self._slots(a)
        return self.areas[a]

    def _slots(self, a: int) -> Slots:
        classes = len(self.starts) - 1
        label = np.repeat(np.arange(classes), np.diff(self.starts))
        shift = np.uint64(IOUS * a)
        matched, ignored = ((bits >> shift).astype(np.int64) for bits in (self.matched, self.ignored))
        hit, miss = matched & ~ignored & EVERYWHERE, ~matched & ~ignored & EVERYWHERE
        has_slot = (hit | miss != 0) & (miss != EVERYWHERE)
        # Counted from below: rows come by descending score, and one without a slot lies above the next one.
        at_or_below = np.append(np.cumsum(has_slot[::-1])[::-1], 0)
        slot = (at_or_below[:-1] - at_or_below[self.starts[1:]][label] - 1).astype(np.int32)
        group = label * self.images + self.image
        slotted, wrong = np.flatnonzero(has_slot), np.flatnonzero((miss == EVERYWHERE) & (slot >= 0))
        upwards = slotted[np.lexsort((slot[slotted], label[slotted]))]
        wrong = wrong[np.argsort(group[wrong], kind="stable")]
        firsts = np.flatnonzero(np.diff(group[wrong] * len(label) + slot[wrong], prepend=-1))
        spans, rows = wrong[firsts], np.diff(firsts, append=len(wrong)).astype(np.int32)
        teachers = np.add.reduceat(self.teacher[wrong].astype(np.int32), firsts)
        groups = np.unique(group[np.concatenate([slotted, spans])])
        bounds = np.append(groups, classes * self.images)
        return Slots(
            np.searchsorted(label[upwards], np.arange(classes + 1)),
            np.searchsorted(groups, np.arange(classes + 1) * self.images),
            hit[upwards].astype(np.int16), miss[upwards].astype(np.int16), self.rank[upwards],
            self.teacher[upwards], np.searchsorted(groups, group[upwards]).astype(np.int32),
            (groups % self.images).astype(np.int32),
            slot[spans], np.searchsorted(group[spans], bounds), rows - teachers, teachers,
        )  # fmt: skip

    def _exact(self, copies: Copies) -> Array:
        """Whole numbers as they are; weights to a power of two, so fine that no class's sum is ever rounded.

        So what has moved in and out of a tally leaves nothing behind, and weights that are whole numbers give
        to the last bit what whole numbers give.
        """
        if np.issubdtype(copies.dtype, np.integer):
            return copies.astype(np.int32)
        classes = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        rows = np.bincount(classes, copies[self.image], len(self.starts) - 1)
        truths = np.einsum("i,ik->k", copies, self.truths[:, :, 0], dtype=np.float64)
        largest = max(float((rows + truths).max()), 1.0)
        digit = 2.0 ** (np.ceil(np.log2(largest)) - 52)
        return np.asarray(np.rint(copies / digit) * digit)

    def rewards(self, contexts: NDArray[np.bool_]) -> FloatArray:
        """[classes, N] change of each class's AP when an image alone moves from student to teacher.

        Args:
            contexts: [contexts, N] whose answers all other images have meanwhile, True for the teacher's; the
                change is averaged over them.
        """
        truths = self.truths[:, :, 0].sum(axis=0, dtype=np.int64)
        gains = np.zeros((len(truths), self.images))
        slots, needed = self.slots(0), least_hits(truths)
        with ThreadPoolExecutor(thread_count()) as pool:  # each class has a row of its own
            moves = pool.map(
                lambda k: single_moves(slots, k, truths, needed, contexts, gains), np.flatnonzero(truths)
            )
            deque(moves, maxlen=0)  # raises what one of them raises
        return gains


def extreme_contexts(images: int) -> NDArray[np.bool_]:
    """[2, images] all others are the student's, and all others are the teacher's."""
    return np.repeat([[False], [True]], images, axis=1)


def random_contexts(images: int, seed: int = 0) -> NDArray[np.bool_]:
    """[5, images] none, a quarter, a half, three quarters and all of the images, in one random order."""
    rank = np.random.default_rng(seed).permutation(images)
    return np.asarray(rank < np.linspace(0, images, 5)[:, None])


def over_classes(stats: FloatArray, worth: FloatArray | None = None) -> FloatArray:
    """[classes, ...] -> [...] the mean over the classes that have such objects, -1 where none has.

    Args:
        worth: [classes] weights of the mean; without, all classes weigh alike, as COCO has it.
    """
    judged = stats > -1
    weights = np.ones(len(stats)) if worth is None else worth
    weights = np.where(judged, weights.reshape(-1, *[1] * (stats.ndim - 1)), 0.0)
    weight, total = weights.sum(axis=0), (weights * np.where(judged, stats, 0.0)).sum(axis=0)
    any_judged = weight > 0
    return np.asarray(np.where(any_judged, total / np.where(any_judged, weight, 1.0), -1.0))
