"""Precision and recall of a class in many mixtures at once, side by side: each mixture is a lane.

Whatever the mixture, rows come in one order of scores, and a row is there in an unbroken range of lanes. So
one walk from the surest row down serves all lanes: it counts the row where it is there, and notes the
precision beside the recall that is reached. The numbers are pycocotools' to the bit.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Array, FloatArray
from ebjr_det.io.compiled import compiled

RECALLS = np.linspace(0.0, 1.0, 101)
IOUS = 10
EPSILON = np.spacing(1)
WIDTH = 32  # lanes of one walk: what is noted of them, 250 KB, stays near the processor


class Lanes(NamedTuple):
    """What is there of one class, in numbers that are whole or real as the images' copies are.

    Attributes:
        slot: [entries] of `Slots`, ascending; weight: [entries] how much its row counts; low, high: [entries]
            its row is there from lane `low` up to but not including `high`.
        above, lane, wrong: [changes] so many more false positives at all IoU thresholds between an entry and
            the next, from a lane upwards.
    """

    slot: NDArray[np.int32]
    weight: Array
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    above: NDArray[np.int32]
    lane: NDArray[np.int32]
    wrong: Array


class Room(NamedTuple):
    """What a walk notes, by IoU threshold and lane, flat.

    Attributes:
        best: [1 + recalls, thresholds, lanes] the best precision where exactly so many recalls are reached;
            0 between two walks.
        hits, missed: [thresholds, lanes] true positives so far; false positives at some thresholds only.
        so_far, total: [thresholds, lanes] the interpolated precision, and its sum over recalls.
        wrong, added: [lanes] false positives at all thresholds so far, and what each lane has more than the
            one before.
        early: [3, lanes + 1] likewise true positives, over all thresholds, among the first 1, 10 and 100 of
            their image.
    """

    best: FloatArray
    hits: Array
    missed: Array
    so_far: FloatArray
    total: FloatArray
    wrong: Array
    added: Array
    early: Array


@compiled()
def room_for(lanes, copies):  # type: ignore[no-untyped-def]
    """Room for walks of so many lanes, and at most `WIDTH` at once."""
    width, kind = min(lanes, WIDTH), copies.dtype
    cells = IOUS * width
    return Room(
        np.zeros((1 + len(RECALLS)) * cells), np.zeros(cells, dtype=kind), np.zeros(cells, dtype=kind),
        np.zeros(cells), np.zeros(cells), np.zeros(width, dtype=kind), np.zeros(width + 1, dtype=kind),
        np.zeros((3, width + 1), dtype=kind),
    )  # fmt: skip


@compiled()
def judge(lanes, slots, needed, truths, room, judged):  # type: ignore[no-untyped-def]
    """Fill `judged` [lanes, 6] with AP, AP50, AP75, AR1, AR10 and AR100.

    Args:
        needed: [1 + recalls] of `precision.least_hits`; truths: how many objects count.
    """
    width = min(len(judged), WIDTH)
    changes = np.empty((len(lanes.slot), width + 1), dtype=lanes.weight.dtype)
    offsets = _offsets(lanes.weight, needed, IOUS * width)
    for first in range(0, len(judged), width):
        changes[:] = 0
        for n in range(len(lanes.wrong)):
            lane = min(max(lanes.lane[n] - first, 0), width)  # those beyond change nothing here
            changes[lanes.above[n], lane] += lanes.wrong[n]
        _walk(lanes, slots, first, changes, offsets, needed, room)
        count = min(width, len(judged) - first)
        _sum_up(room, width, needed, truths, judged[first : first + count])


@compiled()
def _offsets(weight, needed, cells):  # type: ignore[no-untyped-def]
    """[1 + all hits that can be] where `Room.best` notes what so many true positives reach.

    Of real numbers, which no table can number, nothing.
    """
    half = np.full(1, 0.5).astype(weight.dtype)[0]
    count = 1 + int(weight.sum()) if half == 0 else 0
    offsets = np.empty(count, dtype=np.int64)
    recall = 0
    for hits in range(count):
        while recall + 1 < len(needed) and needed[recall + 1] <= hits:
            recall += 1
        offsets[hits] = recall * cells
    return offsets


@compiled(error_model="numpy")
def _walk(lanes, slots, first, changes, offsets, needed, room):  # type: ignore[no-untyped-def]
    """Note in `room` what is there in the lanes from `first`, from the surest row down."""
    best, hits, missed, wrong, early = room.best, room.hits, room.missed, room.wrong, room.early
    width = changes.shape[1] - 1
    hits[:], missed[:], room.added[:], early[:] = 0, 0, 0, 0
    for entry in range(len(lanes.slot) - 1, -1, -1):
        _add_wrong(room.added, changes, entry, wrong)
        low, high = max(lanes.low[entry] - first, 0), min(lanes.high[entry] - first, width)
        if low >= high:
            continue
        times, slot, thresholds = lanes.weight[entry], lanes.slot[entry], 0
        for t in range(IOUS):
            # Unsigned: an index that may be negative costs a comparison at every use.
            row, start, end = np.uint64(t * width), np.uint64(t * width + low), np.uint64(t * width + high)
            if (slots.hit[slot] >> t) & 1:
                thresholds += 1
                for cell in range(start, end):
                    count = hits[cell] + times
                    hits[cell] = count
                    precision = count / (count + (wrong[cell - row] + missed[cell]) + EPSILON)
                    if len(offsets):
                        offset = offsets[np.uint64(count)]
                    else:
                        offset = (np.searchsorted(needed, count, side="right") - 1) * (IOUS * width)
                    noted = np.uint64(offset) + cell
                    best[noted] = max(best[noted], precision)
            elif (slots.miss[slot] >> t) & 1:
                for cell in range(start, end):
                    missed[cell] += times
        for n in range(3):
            if slots.rank[slot] < 10**n:
                early[n, low] += times * thresholds
                early[n, high] -= times * thresholds


@compiled()
def _add_wrong(added, changes, entry, wrong):  # type: ignore[no-untyped-def]
    """Count in `wrong` the false positives at all thresholds above an entry, lane after lane."""
    total = added[0] * 0
    for lane in range(len(wrong)):
        added[lane] += changes[entry, lane]
        total += added[lane]
        wrong[lane] = total


@compiled()
def _sum_up(room, width, needed, truths, judged):  # type: ignore[no-untyped-def]
    """Fill `judged` from what a walk has noted, and leave the room as it was.

    The interpolated precision at a recall is the best one at that recall or a higher one.
    """
    best, so_far, total, cells = room.best, room.so_far, room.total, IOUS * width
    so_far[:], total[:] = 0, 0
    largest = room.hits[:cells].max()
    for recall in range(np.searchsorted(needed, largest, side="right") - 1, 0, -1):
        noted = best[recall * cells : (recall + 1) * cells]
        for cell in range(cells):
            highest = max(so_far[cell], noted[cell])
            so_far[cell] = highest
            total[cell] += highest
            noted[cell] = 0.0
    early = room.early[:, 0] * 0
    for lane in range(len(judged)):
        average = 0.0
        for t in range(IOUS):
            average += total[t * width + lane] / len(RECALLS)
        judged[lane, 0] = average / IOUS
        judged[lane, 1] = total[lane] / len(RECALLS)
        judged[lane, 2] = total[5 * width + lane] / len(RECALLS)
        for n in range(3):
            early[n] += room.early[n, lane]
            judged[lane, 3 + n] = early[n] / (IOUS * truths)
