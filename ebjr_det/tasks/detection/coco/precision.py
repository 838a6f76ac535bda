"""A class's true and false positives, tallied slot by slot, and the precision and recall that they amount to.

Everything here is compiled; the walks let go of Python's lock. What depends on the rows alone is in `Slots`,
made once; a tally says which of them are there, and how often.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Array
from ebjr_det.io.compiled import compiled

RECALLS = np.linspace(0.0, 1.0, 101)
IOUS = 10
EVERYWHERE = 2**IOUS - 1  # the bits of all IoU thresholds
EPSILON = np.spacing(1)
NEAR = 1e-8


class Slots(NamedTuple):
    """The rows of two models in one area range, class by class.

    A row that is judged otherwise at some IoU thresholds than at others, or is a true positive at all, has a
    slot, from 0 at the class's lowest score upwards. Only a true positive can be a peak of precision, so of
    false positives at all thresholds it is enough to know how many lie from one slot to the next; those below
    all slots change nothing. A group is what one image has of one class, and so what its move changes.

    Attributes:
        starts: [classes + 1] first slot of each class; groups: [classes + 1] its first group.
        hit, miss: [slots] bit t: a true, a false positive at IoU threshold t.
        rank: [slots] of the records; teacher: [slots] whose row it is.
        image: [groups] ascending within a class.
        members, owners: [slots] the slots of one group after another, counted within the class, and
            [groups + 1] where each group's begin.
        above, spans: [spans] likewise the slots that false positives lie above, and [groups + 1].
        students, teachers: [spans] how many of either model.
    """

    starts: NDArray[np.intp]
    groups: NDArray[np.intp]
    hit: NDArray[np.int16]
    miss: NDArray[np.int16]
    rank: NDArray[np.uint8]
    teacher: NDArray[np.bool_]
    image: NDArray[np.int32]
    members: NDArray[np.int32]
    owners: NDArray[np.intp]
    above: NDArray[np.int32]
    spans: NDArray[np.intp]
    students: NDArray[np.int32]
    teachers: NDArray[np.int32]


class Tally(NamedTuple):
    """What is there of one class, in numbers that are whole or real as the images' copies are.

    Attributes:
        first: the class's first slot.
        copies: [N] how often each image counts.
        weight: [slots] how much each slot's row counts, 0 while it is not there.
        between: [slots] false positives at all thresholds above a slot and below the next; wrong: [1] all.
        hits, misses: [IoU thresholds] true positives; false positives at some thresholds only.
        early: [2, IoU thresholds] true positives among the first 1 and 10 of their image.
        weights, bits, wrongs: [slots + 1] room for the slots that are there: weight, hit and miss, and the
            false positives at all thresholds that lie above.
    """

    first: int
    copies: Array
    weight: Array
    between: Array
    wrong: Array
    hits: Array
    misses: Array
    early: Array
    weights: Array
    bits: NDArray[np.int32]
    wrongs: Array


def least_hits(truths: Array) -> Array:
    """[...] objects -> [..., 1 + recalls] 0, then the least true positives that reach each recall.

    Least: the smallest whole number above 0 whose quotient by the objects is not below the recall, to the
    last bit. Real numbers that are within 1e-8 of a recall are at it, and reach it where such a quotient of
    whole numbers does.
    """
    objects = truths[..., None].astype(np.float64)
    if np.issubdtype(truths.dtype, np.integer):
        least = np.ceil(RECALLS * objects)
        with np.errstate(divide="ignore", invalid="ignore"):  # a class without objects
            while (high := (least > 0) & ((least - 1) / objects >= RECALLS)).any():
                least -= high
            while (low := least / objects < RECALLS).any():
                least += low
        least = np.maximum(least, 1)
    else:
        equal = np.arange(len(RECALLS)) / (len(RECALLS) - 1) >= RECALLS
        least = np.maximum(RECALLS * objects * np.where(equal, 1 - NEAR, 1 + NEAR), np.nextafter(0, 1))
    return np.concatenate([np.zeros_like(objects), least], axis=-1).astype(truths.dtype)


@compiled(nogil=True)
def walk_classes(slots, turn, copies, truths, needed, a, out):  # type: ignore[no-untyped-def]
    """Fill `out` [classes, mixtures, 12] with the numbers of one area range, `a`.

    Args:
        slots: `Slots` of the area range.
        turn: [N] the mixture from which on an image is the teacher's; copies: [N] how often it counts, or
            its weight.
        truths: [classes] objects that count; needed: [classes, 1 + recalls] of `least_hits`.
    """
    judged = np.empty(6)
    for k in range(len(truths)):
        if truths[k] == 0:
            continue
        order, firsts = _by_turn(turn, slots.image, slots.groups[k], slots.groups[k + 1], out.shape[1] + 1)
        tally = _students(slots, copies, k)
        for j in range(out.shape[1]):  # judged anew whenever some have moved
            _move(tally, slots, order[firsts[j] : firsts[j + 1]], -1, 1)
            if j == 0 or firsts[j] < firsts[j + 1]:
                _judge(tally, slots, needed[k], truths[k], judged)
            if a == 0:  # AP, AP50, AP75 and AR1, AR10, AR100 are of all areas
                for n in range(3):
                    out[k, j, n], out[k, j, 6 + n] = judged[n], judged[3 + n]
            else:
                out[k, j, 2 + a], out[k, j, 8 + a] = judged[0], judged[5]


@compiled(nogil=True)
def single_moves(slots, k, truths, needed, contexts, gains):  # type: ignore[no-untyped-def]
    """Add to `gains` [classes, N] what an image's own move to the teacher changes in the AP of class `k`.

    Args:
        slots, truths, needed: as in `walk_classes`, of all areas.
        contexts: [contexts, N] whose answers the images have meanwhile, True for the teacher's; the change is
            averaged over them. An image that is the teacher's there counts by what its move back would lose.
    """
    judged, copies = np.empty(6), np.ones(gains.shape[1], dtype=np.int32)
    groups = np.arange(slots.groups[k], slots.groups[k + 1], dtype=np.int32)
    for context in contexts:
        tally = _students(slots, copies, k)
        _move(tally, slots, groups[context[slots.image[groups]]], -1, 1)
        _judge(tally, slots, needed[k], truths[k], judged)
        precision = judged[0]
        for n in range(len(groups)):  # there and back again: every image is judged in the same context
            i = slots.image[groups[n]]
            side = -1 if context[i] else 1
            _move(tally, slots, groups[n : n + 1], -side, side)
            _judge(tally, slots, needed[k], truths[k], judged)
            _move(tally, slots, groups[n : n + 1], side, -side)
            gains[k, i] += side * (judged[0] - precision) / len(contexts)


@compiled()
def _by_turn(turn, image, start, end, turns):  # type: ignore[no-untyped-def]
    """The groups from start to end by the turn of their image, and where each turn begins [turns + 1]."""
    firsts = np.zeros(turns + 1, dtype=np.int64)
    for group in range(start, end):
        firsts[turn[image[group]] + 1] += 1
    firsts = np.cumsum(firsts)
    free = firsts.copy()
    order = np.empty(end - start, dtype=np.int32)
    for group in range(start, end):
        order[free[turn[image[group]]]] = group
        free[turn[image[group]]] += 1
    return order, firsts


@compiled()
def _students(slots, copies, k):  # type: ignore[no-untyped-def]
    """The tally of a class where every image is the student's."""
    first, count, kind = slots.starts[k], slots.starts[k + 1] - slots.starts[k], copies.dtype
    tally = Tally(
        first, copies, np.zeros(count, dtype=kind), np.zeros(count, dtype=kind), np.zeros(1, dtype=kind),
        np.zeros(IOUS, dtype=kind), np.zeros(IOUS, dtype=kind), np.zeros((2, IOUS), dtype=kind),
        np.empty(count + 1, dtype=kind), np.empty(count + 1, dtype=np.int32), np.empty(count + 1, dtype=kind),
    )  # fmt: skip
    _move(tally, slots, np.arange(slots.groups[k], slots.groups[k + 1], dtype=np.int32), 1, 0)
    return tally


@compiled()
def _move(tally, slots, groups, student, teacher):  # type: ignore[no-untyped-def]
    """Count the student's and the teacher's rows of some groups so often more, times their image's copies."""
    image, copies, owners, spans = slots.image, tally.copies, slots.owners, slots.spans
    above, students, teachers, between = slots.above, slots.students, slots.teachers, tally.between
    total = tally.wrong[0]
    for group in groups:
        times = copies[image[group]]
        if times == 0:
            continue
        for span in range(spans[group], spans[group + 1]):
            added = times * (student * students[span] + teacher * teachers[span])
            between[above[span]] += added
            total += added
        members = slots.members[owners[group] : owners[group + 1]]
        if len(members):
            _count(tally, slots, members, times * student, times * teacher)
    tally.wrong[0] = total


@compiled()
def _count(tally, slots, members, student, teacher):  # type: ignore[no-untyped-def]
    """Count the rows of some slots so often more, by whose they are."""
    hits, misses, early = tally.hits, tally.misses, tally.early
    for slot in members:
        row = tally.first + slot
        times = teacher if slots.teacher[row] else student
        tally.weight[slot] += times
        hit, miss, rank = slots.hit[row], slots.miss[row], slots.rank[row]
        for t in range(IOUS):
            hits[t] += times * ((hit >> t) & 1)
            misses[t] += times * ((miss >> t) & 1)
            early[0, t] += times * ((hit >> t) & (rank < 1))
            early[1, t] += times * ((hit >> t) & (rank < 10))


@compiled()
def _judge(tally, slots, needed, truths, judged):  # type: ignore[no-untyped-def]
    """Fill `judged` with AP, AP50, AP75, AR1, AR10 and AR100 of what is in the tally."""
    weight, between, hit, miss = tally.weight, tally.between, slots.hit, slots.miss
    weights, bits, wrongs, first = tally.weights, tally.bits, tally.wrongs, tally.first
    wrong, present = tally.wrong[0], 0
    for slot in range(len(weight)):  # those that are there move together; the others are written over
        weights[present], wrongs[present] = weight[slot], wrong
        bits[present] = hit[first + slot] | miss[first + slot] << IOUS
        present += weight[slot] != 0
        wrong -= between[slot]
    average = np.empty(IOUS)
    for t in range(IOUS):
        average[t] = _interpolated(
            weights[:present], bits[:present], wrongs, tally.hits[t], tally.misses[t], t, needed
        )
    judged[0], judged[1], judged[2] = average.mean(), average[0], average[5]
    judged[3], judged[4] = tally.early[0].sum() / (IOUS * truths), tally.early[1].sum() / (IOUS * truths)
    judged[5] = tally.hits.sum() / (IOUS * truths)


@compiled()
def _interpolated(weights, bits, wrongs, hits, missed, t, needed):  # type: ignore[no-untyped-def]
    """Mean over the recalls of the interpolated precision at one IoU threshold.

    The interpolated precision at a recall is the best one at that many true positives or more. Going up from
    the lowest slot, `best / places` is the best so far; fractions compare without division.
    A slot without a true positive only repeats the count of the next one above that has one, at a precision
    no higher.
    """
    recall = np.searchsorted(needed, hits, side="right") - 1  # those above are never reached: precision 0
    best, places, total, least = 0, 1, 0.0, needed[recall]
    for slot in range(len(weights)):
        if (bits[slot] >> t) & 1:
            rows = hits + (wrongs[slot] + missed)
            if hits * places > best * rows:  # hits / rows > best / places
                best, places = hits, rows
            hits -= weights[slot]
            if least > hits:
                precision = best / (places + EPSILON)
                while least > hits:  # no lower slot reaches this recall any more
                    total += precision
                    recall -= 1
                    least = needed[recall]
        elif (bits[slot] >> (t + IOUS)) & 1:
            missed -= weights[slot]
    return total / len(RECALLS)
