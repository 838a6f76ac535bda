"""Average precision of any mixture of two models' records, at every wanted number of deferred images.

Rows of both models are sorted by class and score once. A mixture is then a rule that says which rows are
there: a row of the student while its image is kept, one of the teacher's once it is deferred. Deferring one
more image moves its few rows in and out of a tally of their class, and a walk over the tally gives precision
and recall. Only classes of which a newly deferred image has a row are walked again, so every operating point
is exact and cheap. The numbers are those of pycocotools' `accumulate` and `summarize`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.tasks.detection.matching import compiled
from ebjr_det.types import FloatArray, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""COCO's twelve numbers in pycocotools' order."""
IOUS = 10
EVERYWHERE = 2**IOUS - 1  # the bits of all IoU thresholds
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
            times[self.image], truths, self.images, counts, truths.shape[1] if full else 1, out,
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


class Tally(NamedTuple):
    """The rows of one class in one area range, and what those that are there add up to.

    Each row that is a true positive at some IoU threshold has a slot. Only a true positive can be a peak of
    precision, so of false positives it is enough to know how many lie between two slots.

    Attributes:
        slot: [rows] a row's own, or the first one below it; the last slot lies below all true positives.
        hit, miss: [rows] bit t: a true, a false positive at IoU threshold t.
        rank: [rows] of the records.
        gains: [IoU thresholds, slots + 1] true positives that are there.
        misses: [IoU thresholds, slots + 1] false positives at some thresholds only, each in its row's slot.
        everywhere: [slots + 1] false positives at all thresholds.
        early: [2, IoU thresholds] true positives among the first 1 and 10 of their image.
    """

    slot: NDArray[np.int32]
    hit: NDArray[np.int16]
    miss: NDArray[np.int16]
    rank: NDArray[np.uint8]
    gains: NDArray[np.int32]
    misses: NDArray[np.int32]
    everywhere: NDArray[np.int32]
    early: NDArray[np.int64]


@compiled()
def _walk_classes(starts, place, teacher, rank, matched, ignored, copies, truths, images, counts, areas, out):  # type: ignore[no-untyped-def]
    """Fill `out` [classes, counts, 12]; `place` [rows] is when a row's image is deferred."""
    for k in range(len(truths)):
        own = slice(starts[k], starts[k + 1])
        first, following = _chains(place[own], images)
        for a in range(areas):
            if truths[k, a]:
                tally = _tally(rank[own], matched[own], ignored[own], copies[own], a)
                _walk(tally, teacher[own], copies[own], first, following, truths[k, a], counts, a, out[k])


@compiled()
def _walk(tally, teacher, copies, first, following, truths, counts, a, out):  # type: ignore[no-untyped-def]
    """One class and area range: from the student alone upwards, judged anew whenever a row has moved."""
    needed, judged = _needed(truths), np.empty(6)
    _place(tally, teacher, copies, False)
    deferred, moved = 0, True
    for j in range(len(counts)):
        while deferred < counts[j]:
            moved |= first[deferred] >= 0
            _move(tally, teacher, copies, first[deferred], following, False, 1)
            deferred += 1
        if moved:
            _judge(tally, needed, truths, judged)
            moved = False
        if a == 0:
            for n in range(3):
                out[j, n], out[j, 6 + n] = judged[n], judged[3 + n]
        else:
            out[j, 2 + a], out[j, 8 + a] = judged[0], judged[5]


@compiled()
def _single_moves(starts, image, teacher, rank, matched, ignored, truths, gains):  # type: ignore[no-untyped-def]
    """Add to `gains` [classes, N] what an image's move alone changes in a class's AP; see `Rows.rewards`."""
    judged, once = np.empty(6), np.ones(len(image), dtype=np.int32)
    for k in range(len(truths)):
        if truths[k, 0] == 0:
            continue
        own = slice(starts[k], starts[k + 1])
        side, copies, needed = teacher[own], once[own], _needed(truths[k, 0])
        first, following = _chains(image[own], gains.shape[1])
        for others in (False, True):
            tally = _tally(rank[own], matched[own], ignored[own], copies, 0)
            _place(tally, side, copies, others)
            _judge(tally, needed, truths[k, 0], judged)
            before = judged[0]
            for i in np.flatnonzero(first >= 0):
                _move(tally, side, copies, first[i], following, others, 1)
                _judge(tally, needed, truths[k, 0], judged)
                _move(tally, side, copies, first[i], following, others, -1)
                gains[k, i] += (before - judged[0] if others else judged[0] - before) / 2


@compiled()
def _chains(place, images):  # type: ignore[no-untyped-def]
    """The rows of each image as a chain: its first row and each row's next, -1 where there is none."""
    first = np.full(images, -1, dtype=np.int32)
    following = np.empty(len(place), dtype=np.int32)
    for row in range(len(place)):
        following[row] = first[place[row]]
        first[place[row]] = row
    return first, following


@compiled()
def _tally(rank, matched, ignored, copies, a):  # type: ignore[no-untyped-def]
    """An empty tally; rows of which there are no copies, or that are ignored, never count."""
    slot = np.empty(len(rank), dtype=np.int32)
    hit, miss = np.zeros(len(rank), dtype=np.int16), np.zeros(len(rank), dtype=np.int16)
    shift, bits, slots = np.uint64(IOUS * a), np.uint64(EVERYWHERE), 0
    for row in range(len(rank)):
        slot[row] = slots
        if copies[row]:
            counted = ~(ignored[row] >> shift) & bits
            hit[row] = (matched[row] >> shift) & counted
            miss[row] = ~(matched[row] >> shift) & counted
            slots += hit[row] != 0
    return Tally(
        slot, hit, miss, rank,
        np.zeros((IOUS, slots + 1), dtype=np.int32), np.zeros((IOUS, slots + 1), dtype=np.int32),
        np.zeros(slots + 1, dtype=np.int32), np.zeros((2, IOUS), dtype=np.int64),
    )  # fmt: skip


@compiled()
def _place(tally, teacher, copies, side):  # type: ignore[no-untyped-def]
    """Put all rows of one side into an empty tally."""
    for row in range(len(teacher)):
        if teacher[row] == side:
            _put(tally, row, copies[row])


@compiled()
def _move(tally, teacher, copies, row, following, side, sign):  # type: ignore[no-untyped-def]
    """Replace an image's rows of `side` by those of the other side; `sign` -1 does the reverse."""
    while row >= 0:
        _put(tally, row, sign * copies[row] if teacher[row] != side else -sign * copies[row])
        row = following[row]


@compiled()
def _put(tally, row, weight):  # type: ignore[no-untyped-def]
    slot, hit, miss = tally.slot[row], tally.hit[row], tally.miss[row]
    if miss == EVERYWHERE:
        tally.everywhere[slot] += weight
        return
    for t in range(IOUS):
        if (miss >> t) & 1:
            tally.misses[t, slot] += weight
        elif (hit >> t) & 1:
            tally.gains[t, slot] += weight
            if tally.rank[row] < 1:
                tally.early[0, t] += weight
            if tally.rank[row] < 10:
                tally.early[1, t] += weight


@compiled()
def _needed(truths):  # type: ignore[no-untyped-def]
    """[recalls] the least number of true positives, at least one, whose recall reaches each recall."""
    needed = np.empty(len(RECALLS), dtype=np.int64)
    for r in range(len(RECALLS)):
        count = int(RECALLS[r] * truths)
        while count > 0 and (count - 1) / truths >= RECALLS[r]:
            count -= 1
        while count / truths < RECALLS[r]:
            count += 1
        needed[r] = max(count, 1)
    return needed


@compiled()
def _judge(tally, needed, truths, judged):  # type: ignore[no-untyped-def]
    """Fill `judged` with AP, AP50, AP75, AR1, AR10 and AR100 of what is in the tally."""
    above = tally.everywhere[:-1].sum()
    average, found = np.empty(IOUS), 0
    for t in range(IOUS):
        hits = tally.gains[t].sum()
        wrong = above + tally.misses[t, :-1].sum()
        average[t] = _interpolated(tally.gains[t], tally.misses[t], tally.everywhere, hits, wrong, needed)
        found += hits
    judged[0], judged[1], judged[2] = average.mean(), average[0], average[5]
    judged[3], judged[4] = tally.early[0].sum() / (IOUS * truths), tally.early[1].sum() / (IOUS * truths)
    judged[5] = found / (IOUS * truths)


@compiled()
def _interpolated(gains, misses, everywhere, hits, wrong, needed):  # type: ignore[no-untyped-def]
    """Mean over the recalls of the interpolated precision at one IoU threshold, walking upwards.

    The interpolated precision at a recall is the best one at that many true positives or more. Walking up
    from the lowest slot, `best / places` is the best so far; fractions of whole numbers compare without
    division. A slot without a true positive only repeats the count of the next one above that has one, at a
    precision no higher.
    """
    best, places, total = 0, 1, 0.0
    recall = len(needed) - 1
    while recall >= 0 and needed[recall] > hits:
        recall -= 1
    slot = len(gains) - 2
    while recall >= 0:
        if hits * places > best * (hits + wrong):
            best, places = hits, hits + wrong
        hits -= gains[slot]
        wrong -= misses[slot] + everywhere[slot]
        while recall >= 0 and needed[recall] > hits:
            total += best / (places + EPSILON)
            recall -= 1
        slot -= 1
    return total / len(needed)
