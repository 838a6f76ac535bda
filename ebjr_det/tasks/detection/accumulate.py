"""Average precision of any mixture of two models' records, at every wanted number of deferred images.

Rows of both models are sorted by class and score once. A mixture is then a rule that says which rows are
there (a row of the student while its image is kept, one of the teacher's once it is deferred), and a walk
down the rows of a class gives its precision and recall at all IoU thresholds together. Only classes of which
a newly deferred image has a row are walked again, so every operating point is exact and cheap. The numbers
are those of pycocotools' `accumulate` and `summarize`.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from ebjr_det.tasks.detection.matching import compiled
from ebjr_det.types import FloatArray, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in pycocotools' order."""
IOUS = 10
EPSILON = np.spacing(1)


@dataclass(frozen=True)
class Rows:
    """Both models' match records on N images as rows sorted by class, then score, then image.

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

    @classmethod
    def of(cls, student: Matches, teacher: Matches) -> "Rows":
        """Sort the records of two models on the same images."""
        both = [student, teacher]
        image = np.concatenate([np.repeat(np.arange(len(m["counts"])), m["counts"]) for m in both])
        columns = {
            name: np.concatenate([m[name] for m in both])
            for name in ("score", "label", "rank", "matched", "ignored")
        }
        order = np.lexsort((columns["rank"], image, -columns["score"], columns["label"]))
        classes = student["truths"].shape[1]
        return cls(
            np.searchsorted(columns["label"][order], np.arange(classes + 1)),
            image[order].astype(np.int32),
            (np.arange(len(order)) >= student["counts"].sum())[order],
            columns["rank"][order],
            columns["matched"][order],
            columns["ignored"][order],
            student["truths"],
        )

    @property
    def images(self) -> int:
        """N."""
        return len(self.truths)

    def stats(
        self,
        order: NDArray[np.intp],
        deferred: NDArray[np.intp] | None = None,
        copies: NDArray[np.intp] | None = None,
        *,
        full: bool = True,
    ) -> FloatArray:
        """The twelve numbers by class, [classes, mixtures, 12]; -1 where a class has no such object.

        Args:
            order: [N] images in the order of deferral.
            deferred: ascending, how many of them are the teacher's in each mixture; by default 0..N.
            copies: [N] how often each image counts, by default once.
            full: False leaves everything but AP, AP50 and AP75 at -1 and is about four times as fast.
        """
        counts = np.arange(self.images + 1) if deferred is None else np.asarray(deferred)
        position = np.empty(self.images, dtype=np.int32)
        position[order] = np.arange(self.images, dtype=np.int32)
        times = np.ones(self.images, dtype=np.int32) if copies is None else copies.astype(np.int32)
        truths = np.einsum("i,ika->ka", times, self.truths, dtype=np.int64)
        out = np.full((len(truths), len(counts), len(STATS)), -1.0)
        _walk_classes(
            self.starts, position[self.image], self.teacher, self.rank, self.matched, self.ignored,
            times[self.image], truths, counts.astype(np.int32), 4 if full else 1, out,
        )  # fmt: skip
        return out

    def rewards(self) -> FloatArray:
        """[N] change of AP when an image alone moves to the teacher, while all others are the student's and
        while all others are the teacher's, averaged.
        """
        truths = self.truths.sum(axis=0, dtype=np.int64)
        gains = np.zeros((len(truths), self.images))
        _single_moves(
            self.starts, self.image, self.teacher, self.rank, self.matched, self.ignored, truths, gains
        )
        there = (truths[:, 0] > 0).sum()
        return np.asarray(gains.sum(axis=0) / max(there, 1))


def over_classes(stats: FloatArray) -> FloatArray:
    """[classes, ...] -> [...] the mean over the classes that have such objects, -1 where none has."""
    there = stats > -1
    count = there.sum(axis=0)
    total = np.where(there, stats, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), -1.0))


@compiled(parallel=True)
def _walk_classes(starts, when, teacher, rank, matched, ignored, weight, truths, counts, areas, out):  # type: ignore[no-untyped-def]
    for k in numba.prange(len(truths)):
        if truths[k, 0] == 0:
            continue
        rows = slice(starts[k], starts[k + 1])
        changed = np.zeros(len(counts) + 1, dtype=np.bool_)
        changed[0] = True
        for position in when[rows]:
            changed[np.searchsorted(counts, position, side="right")] = True
        there = np.empty(starts[k + 1] - starts[k], dtype=np.bool_)
        precision = np.zeros((IOUS, truths[k, 0] + 1))
        for j in range(len(counts)):
            if not changed[j]:
                out[k, j] = out[k, j - 1]
                continue
            for row in range(len(there)):
                there[row] = teacher[starts[k] + row] == (when[starts[k] + row] < counts[j])
            for a in range(areas):
                if truths[k, a]:
                    _walk(
                        there, rank[rows], matched[rows], ignored[rows], weight[rows], a, truths[k, a],
                        precision, out[k, j],
                    )  # fmt: skip


@compiled()
def _walk(there, rank, matched, ignored, weight, a, truths, precision, out):  # type: ignore[no-untyped-def]
    """Precision and recall of one class and area range: one walk for all IoU thresholds.

    The interpolated precision at a recall is the largest one at that many true positives or more, and
    precision can only peak at a true positive; so one number for each count of true positives is enough.
    """
    hits, misses = np.zeros(IOUS, dtype=np.int64), np.zeros(IOUS, dtype=np.int64)
    early = np.zeros((2, IOUS), dtype=np.int64)
    precision[:, : truths + 1] = 0.0
    everywhere, shift = 0, np.uint64(10 * a)
    for row in range(len(there)):
        if not there[row]:
            continue
        counted = ~(ignored[row] >> shift) & np.uint64(1023)
        hit = (matched[row] >> shift) & counted
        if hit == 0:
            if counted == 1023:
                everywhere += weight[row]
            elif counted:
                for t in range(IOUS):
                    misses[t] += weight[row] * ((counted >> np.uint64(t)) & np.uint64(1))
            continue
        for t in range(IOUS):
            if (hit >> np.uint64(t)) & np.uint64(1):
                hits[t] += weight[row]
                wrong = float(misses[t] + everywhere)
                precision[t, hits[t]] = hits[t] / (wrong + hits[t] + EPSILON)
                if rank[row] < 1:
                    early[0, t] += weight[row]
                if rank[row] < 10:
                    early[1, t] += weight[row]
            elif (counted >> np.uint64(t)) & np.uint64(1):
                misses[t] += weight[row]
    areas_under = np.empty(IOUS)
    for t in range(IOUS):
        areas_under[t] = _interpolated(precision[t], hits[t], truths) / len(RECALLS)
    average, recall = areas_under.mean(), (hits / truths).mean()
    if a == 0:
        out[0], out[1], out[2] = average, areas_under[0], areas_under[5]
        out[6], out[7], out[8] = (early[0] / truths).mean(), (early[1] / truths).mean(), recall
    else:
        out[2 + a], out[8 + a] = average, recall


@compiled()
def _interpolated(precision, hits, truths):  # type: ignore[no-untyped-def]
    """Sum over the 101 recalls of the interpolated precision; `precision[c]` belongs to c true positives."""
    best, count, total = 0.0, hits, 0.0
    for r in range(len(RECALLS) - 1, -1, -1):
        needed = int(RECALLS[r] * truths)
        while needed > 0 and (needed - 1) / truths >= RECALLS[r]:
            needed -= 1
        while needed / truths < RECALLS[r]:
            needed += 1
        needed = max(needed, 1)
        if needed > hits:
            continue
        while count >= needed:
            best = max(best, precision[count])
            count -= 1
        total += best
    return total


@compiled(parallel=True)
def _single_moves(starts, image, teacher, rank, matched, ignored, truths, gains):  # type: ignore[no-untyped-def]
    for k in numba.prange(len(truths)):
        if truths[k, 0] == 0:
            continue
        rows = slice(starts[k], starts[k + 1])
        own, side, weight = image[rows], teacher[rows], np.ones(starts[k + 1] - starts[k], dtype=np.int32)
        precision = np.zeros((IOUS, truths[k, 0] + 1))
        base, moved = np.empty((2, 12)), np.empty(12)
        for context in range(2):
            there = side == (context == 1)
            _walk(
                there,
                rank[rows],
                matched[rows],
                ignored[rows],
                weight,
                0,
                truths[k, 0],
                precision,
                base[context],
            )
        for i in np.unique(own):
            for context in range(2):
                there = (side == (context == 1)) != (own == i)
                _walk(
                    there, rank[rows], matched[rows], ignored[rows], weight, 0, truths[k, 0], precision, moved
                )
                change = moved[0] - base[context, 0]
                gains[k, i] += 0.5 * (change if context == 0 else -change)
