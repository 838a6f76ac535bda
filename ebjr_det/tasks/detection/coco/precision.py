"""A class's true and false positives, tallied row by row, and the precision and recall that they amount to.

Rows come by descending score. Everything here is compiled; the walk lets go of Python's lock.
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


class Tally(NamedTuple):
    """The rows of one class in one area range, and what those that are there add up to.

    Each row that is a true positive at some IoU threshold has a slot, from 1 at the lowest score upwards.
    Only a true positive can be a peak of precision, so of false positives it is enough to know how many lie
    between two slots; slot 0 is for those below all true positives, which change nothing.

    Attributes:
        slot: [rows] a row's own, or the next one below it.
        hit, miss: [rows] bit t: a true, a false positive at IoU threshold t.
        rank: [rows] of the records.
        weight: [rows] how many a row counts for, negative for the student's; whole numbers or real ones.
        gains: [IoU thresholds, slots + 1] true positives that are there.
        misses: [IoU thresholds, slots + 1] false positives at some thresholds only, each in its row's slot.
        everywhere: [slots + 1] false positives at all thresholds.
        early: [2, IoU thresholds] true positives among the first 1 and 10 of their image.
    """

    slot: NDArray[np.int32]
    hit: NDArray[np.int16]
    miss: NDArray[np.int16]
    rank: NDArray[np.uint8]
    weight: Array
    gains: Array
    misses: Array
    everywhere: Array
    early: Array


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
def walk_classes(rows, turn, copies, truths, needed, areas, out):  # type: ignore[no-untyped-def]
    """Fill `out` [classes, mixtures, 12].

    Args:
        rows: `accumulate.Rows`.
        turn: [N] the mixture from which on an image is the teacher's; copies: [N] how often it counts, or
            its weight.
        truths: [classes, areas] objects that count, in the first so many `areas`.
        needed: [classes, areas, 1 + recalls] of `least_hits`.
    """
    for k in range(len(truths)):
        order, firsts = _by_turn(turn, rows.image[rows.starts[k] : rows.starts[k + 1]], out.shape[1] + 1)
        for a in range(areas):
            if truths[k, a]:
                _walk(_tally(copies, rows, k, a), order, firsts, truths[k, a], needed[k, a], a, out[k])


@compiled()
def _walk(tally, order, firsts, truths, needed, a, out):  # type: ignore[no-untyped-def]
    """One class and area range: from the student's rows on, judged anew whenever some have moved."""
    judged = np.empty(6)
    _put(tally, -1)
    for j in range(len(out)):
        _move(tally, order[firsts[j] : firsts[j + 1]], 1)
        if j == 0 or firsts[j] < firsts[j + 1]:
            _judge(tally, needed, truths, judged)
        if a == 0:  # AP, AP50, AP75 and AR1, AR10, AR100 are of all areas
            for n in range(3):
                out[j, n], out[j, 6 + n] = judged[n], judged[3 + n]
        else:
            out[j, 2 + a], out[j, 8 + a] = judged[0], judged[5]


@compiled(nogil=True)
def single_moves(rows, truths, needed, contexts, gains):  # type: ignore[no-untyped-def]
    """Add to `gains` [classes, N] what an image's own move to the teacher changes in a class's AP.

    Args:
        rows: `accumulate.Rows`; needed: [classes, areas, 1 + recalls] of `least_hits`.
        contexts: [contexts, N] whose answers the images have meanwhile, True for the teacher's; the change is
            averaged over them. An image that is the teacher's there counts by what its move back would lose.
    """
    judged, turn = np.empty(6), np.arange(gains.shape[1]).astype(np.int32)
    copies = np.ones(gains.shape[1], dtype=np.int32)
    for k in range(len(truths)):
        if truths[k, 0] == 0:
            continue
        image = rows.image[rows.starts[k] : rows.starts[k + 1]]
        order, firsts = _by_turn(turn, image, len(turn))
        for context in contexts:
            tally = _tally(copies, rows, k, 0)
            _put(tally, -1)
            _move(tally, order[context[image[order]]], 1)
            _judge(tally, needed[k, 0], truths[k, 0], judged)
            precision = judged[0]
            for i in range(len(turn)):
                moved = order[firsts[i] : firsts[i + 1]]
                if len(moved):  # there and back again, so that every image is judged in the same context
                    side = -1 if context[i] else 1
                    _move(tally, moved, side)
                    _judge(tally, needed[k, 0], truths[k, 0], judged)
                    _move(tally, moved, -side)
                    gains[k, i] += side * (judged[0] - precision) / len(contexts)


@compiled()
def _by_turn(turn, image, turns):  # type: ignore[no-untyped-def]
    """The rows by the turn of their image, ascending within one, and where each turn begins [turns + 1]."""
    firsts = np.zeros(turns + 1, dtype=np.int64)
    for row in range(len(image)):
        firsts[turn[image[row]] + 1] += 1
    firsts = np.cumsum(firsts)
    free = firsts.copy()
    order = np.empty(len(image), dtype=np.int32)
    for row in range(len(image)):
        order[free[turn[image[row]]]] = row
        free[turn[image[row]]] += 1
    return order, firsts


@compiled()
def _tally(copies, rows, k, a):  # type: ignore[no-untyped-def]
    """An empty tally of a class; rows of which there are no copies, or that are ignored, never count."""
    start, end, kind = rows.starts[k], rows.starts[k + 1], copies.dtype
    image, teacher, rank = rows.image[start:end], rows.teacher[start:end], rows.rank[start:end]
    matched, ignored = rows.matched[start:end], rows.ignored[start:end]
    weight = np.empty(len(rank), dtype=kind)
    slot = np.empty(len(rank), dtype=np.int32)
    hit, miss = np.zeros(len(rank), dtype=np.int16), np.zeros(len(rank), dtype=np.int16)
    shift, bits, slots = np.uint64(IOUS * a), np.uint64(EVERYWHERE), 0
    for row in range(len(rank) - 1, -1, -1):  # from the lowest score up, as slots are counted
        weight[row] = copies[image[row]] if teacher[row] else -copies[image[row]]
        if weight[row]:
            counted = ~(ignored[row] >> shift) & bits
            hit[row] = (matched[row] >> shift) & counted
            miss[row] = ~(matched[row] >> shift) & counted
            slots += hit[row] != 0
        slot[row] = slots
    return Tally(
        slot, hit, miss, rank, weight,
        np.zeros((IOUS, slots + 1), dtype=kind), np.zeros((IOUS, slots + 1), dtype=kind),
        np.zeros(slots + 1, dtype=kind), np.zeros((2, IOUS), dtype=kind),
    )  # fmt: skip


@compiled()
def _put(tally, side):  # type: ignore[no-untyped-def]
    """Put all rows of one side, -1 or 1 as the sign of their weight, into an empty tally."""
    _move(tally, np.flatnonzero(tally.weight * side > 0), side)


@compiled()
def _move(tally, rows, sign):  # type: ignore[no-untyped-def]
    """Replace the student's rows among these by the teacher's; `sign` -1 does the reverse."""
    for row in rows:
        weight, slot = tally.weight[row] * sign, tally.slot[row]
        hit, miss, rank = tally.hit[row], tally.miss[row], tally.rank[row]
        if miss == EVERYWHERE:  # most rows are; one number for all thresholds
            tally.everywhere[slot] += weight
            continue
        for t in range(IOUS):
            if (miss >> t) & 1:
                tally.misses[t, slot] += weight
            elif (hit >> t) & 1:
                tally.gains[t, slot] += weight
                if rank < 1:
                    tally.early[0, t] += weight
                if rank < 10:
                    tally.early[1, t] += weight


@compiled()
def _judge(tally, needed, truths, judged):  # type: ignore[no-untyped-def]
    """Fill `judged` with AP, AP50, AP75, AR1, AR10 and AR100 of what is in the tally."""
    everywhere = tally.everywhere[1:].sum()
    average, all_hits = np.empty(IOUS), 0
    for t in range(IOUS):
        hits = tally.gains[t].sum()
        wrong = everywhere + tally.misses[t, 1:].sum()
        average[t] = _interpolated(tally.gains[t], tally.misses[t], tally.everywhere, hits, wrong, needed)
        all_hits += hits
    judged[0], judged[1], judged[2] = average.mean(), average[0], average[5]
    judged[3], judged[4] = tally.early[0].sum() / (IOUS * truths), tally.early[1].sum() / (IOUS * truths)
    judged[5] = all_hits / (IOUS * truths)


@compiled()
def _interpolated(gains, misses, everywhere, hits, wrong, needed):  # type: ignore[no-untyped-def]
    """Mean over the recalls of the interpolated precision at one IoU threshold.

    The interpolated precision at a recall is the best one at that many true positives or more. Going up from
    the lowest slot, `best / places` is the best so far; fractions compare without division.
    A slot without a true positive only repeats the count of the next one above that has one, at a precision
    no higher.
    """
    recall = len(RECALLS)
    while needed[recall] > hits:  # recalls that are never reached have the precision 0
        recall -= 1
    best, places, total, least = 0, 1, 0.0, needed[recall]
    for slot in range(1, len(gains)):
        if hits * places > best * (hits + wrong):  # hits / (hits + wrong) > best / places
            best, places = hits, hits + wrong
        hits -= gains[slot]
        wrong -= misses[slot] + everywhere[slot]
        while least > hits:  # no lower slot reaches this recall any more: its precision is the best so far
            total += best / (places + EPSILON)
            recall -= 1
            least = needed[recall]
    return total / len(RECALLS)
