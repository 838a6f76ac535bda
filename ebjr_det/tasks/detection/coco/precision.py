"""A class's true and false positives, tallied slot by slot, and the precision and recall that they amount to.

Everything here is compiled; the walks let go of Python's lock. What depends on the rows alone is in `Slots`,
made once; a tally says which of them are there, and how often.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.types import Array
from ebjr_det.io.compiled import compiled
from ebjr_det.tasks.detection.coco.lanes import IOUS, RECALLS, Lanes, judge, room_for

EVERYWHERE = 2**IOUS - 1  # the bits of all IoU thresholds
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
        rank: [slots] of the records; teacher: [slots] whose row it is; group: [slots] which it belongs to.
        image: [groups] ascending within a class.
        above, spans: [spans] the slots that false positives lie above, counted within the class, one group
            after another, and [groups + 1] where each group's begin.
        students, teachers: [spans] how many of either model.
    """

    starts: NDArray[np.intp]
    groups: NDArray[np.intp]
    hit: NDArray[np.int16]
    miss: NDArray[np.int16]
    rank: NDArray[np.uint8]
    teacher: NDArray[np.bool_]
    group: NDArray[np.int32]
    image: NDArray[np.int32]
    above: NDArray[np.int32]
    spans: NDArray[np.intp]
    students: NDArray[np.int32]
    teachers: NDArray[np.int32]


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
    room = room_for(out.shape[1], copies)
    for k in range(len(truths)):
        if truths[k] == 0:
            continue
        lane = _lane_of_mixture(slots, turn, copies, k, out.shape[1])
        judged = np.empty((lane[-1], 6))
        judge(_turning(slots, lane[turn], copies, k, lane[-1]), slots, needed[k], truths[k], room, judged)
        for j in range(out.shape[1]):
            numbers = judged[lane[j]]
            if a == 0:  # AP, AP50, AP75 and AR1, AR10, AR100 are of all areas
                for n in range(3):
                    out[k, j, n], out[k, j, 6 + n] = numbers[n], numbers[3 + n]
            else:
                out[k, j, 2 + a], out[k, j, 8 + a] = numbers[0], numbers[5]


@compiled()
def _lane_of_mixture(slots, turn, copies, k, mixtures):  # type: ignore[no-untyped-def]
    """[mixtures + 1] each mixture's lane, a new one where the class changes; last, how many lanes."""
    lane = np.zeros(mixtures + 1, dtype=np.int32)
    for group in range(slots.groups[k], slots.groups[k + 1]):
        image = slots.image[group]
        if copies[image] != 0:
            lane[turn[image]] = 1
    lane[0], lane[mixtures] = 0, 1
    return np.cumsum(lane).astype(np.int32)


@compiled()
def _turning(slots, turn, copies, k, lanes):  # type: ignore[no-untyped-def]
    """`Lanes` of a class in which images are the teacher's from lane `turn` [N] on."""
    first, count = slots.starts[k], slots.starts[k + 1] - slots.starts[k]
    weight, low = np.zeros(count, dtype=copies.dtype), np.empty(count, dtype=np.int32)
    high = low.copy()
    for slot in range(count):
        image = slots.image[slots.group[first + slot]]
        low[slot], high[slot] = (turn[image], lanes) if slots.teacher[first + slot] else (0, turn[image])
        weight[slot] = copies[image] if low[slot] < high[slot] else 0
    present = np.flatnonzero(weight)
    entry = np.cumsum(weight != 0) - 1  # the last one at or below a slot
    changes = 2 * (slots.spans[slots.groups[k + 1]] - slots.spans[slots.groups[k]])
    above, lane = np.empty(changes, np.int32), np.empty(changes, np.int32)
    wrong, n = np.empty(changes, dtype=copies.dtype), 0
    for group in range(slots.groups[k], slots.groups[k + 1]):
        image = slots.image[group]
        times = copies[image]
        if times == 0:
            continue
        for span in range(slots.spans[group], slots.spans[group + 1]):
            if entry[slots.above[span]] < 0:  # below all that is there
                continue
            students, teachers = times * slots.students[span], times * slots.teachers[span]
            above[n : n + 2] = entry[slots.above[span]]
            lane[n], lane[n + 1] = 0, turn[image]
            wrong[n], wrong[n + 1] = students, teachers - students
            n += 2
    return Lanes(
        (first + present).astype(np.int32),
        weight[present],
        low[present],
        high[present],
        above[:n],
        lane[:n],
        wrong[:n],
    )


@compiled(nogil=True)
def single_moves(slots, k, truths, needed, contexts, gains):  # type: ignore[no-untyped-def]
    """Add to `gains` [classes, N] what an image's own move to the teacher changes in the AP of class `k`.

    Args:
        slots, truths, needed: as in `walk_classes`, of all areas.
        contexts: [contexts, N] whose answers the images have meanwhile, True for the teacher's; the change is
            averaged over them. An image that is the teacher's there counts by what its move back would lose.
    """
    images = slots.image[slots.groups[k] : slots.groups[k + 1]]
    judged = np.empty((len(images) + 1, 6))
    room = room_for(len(judged), np.ones(1, dtype=np.int32))
    for context in contexts:
        judge(_moving(slots, context, k), slots, needed[k], truths[k], room, judged)
        for lane, image in enumerate(images):
            side = -1 if context[image] else 1
            gains[k, image] += side * (judged[lane, 0] - judged[-1, 0]) / len(contexts)


@compiled()
def _moving(slots, context, k):  # type: ignore[no-untyped-def]
    """`Lanes` of a class in each of which one group's image has moved; the last is the context [N] itself."""
    first, start, end = slots.starts[k], slots.groups[k], slots.groups[k + 1]
    lanes, slot_count = end - start + 1, slots.starts[k + 1] - slots.starts[k]
    ranges = np.empty((3, 2 * slot_count), dtype=np.int32)
    entry, low, high = ranges[0], ranges[1], ranges[2]
    highest, n = np.empty(slot_count, dtype=np.int32), 0
    for slot in range(slot_count):
        mover = slots.group[first + slot] - start
        if slots.teacher[first + slot] == context[slots.image[start + mover]]:  # everywhere but there
            entry[n], low[n], high[n] = first + slot, 0, mover
            n += 1
            entry[n], low[n], high[n] = first + slot, mover + 1, lanes
        else:
            entry[n], low[n], high[n] = first + slot, mover, mover + 1
        highest[slot] = n
        n += 1
    spans = slots.spans[start : end + 1]
    above = np.repeat(highest[slots.above[spans[0] : spans[-1]]], 3)
    lane, wrong = np.empty(len(above), dtype=np.int32), np.empty(len(above), dtype=np.int32)
    for mover in range(lanes - 1):
        moved = context[slots.image[start + mover]]
        for span in range(spans[mover], spans[mover + 1]):
            students, teachers = slots.students[span], slots.teachers[span]
            base, moving = (teachers, students) if moved else (students, teachers)
            m = 3 * (span - spans[0])
            lane[m], lane[m + 1], lane[m + 2] = 0, mover, mover + 1
            wrong[m], wrong[m + 1], wrong[m + 2] = base, moving - base, base - moving
    return Lanes(entry[:n], np.ones(n, np.int32), low[:n], high[:n], above, lane, wrong)
