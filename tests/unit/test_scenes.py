"""Scenes of digits: the same everywhere, of disjoint digits, with boxes that are tight and in the picture."""

import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ebjr_det.tasks.detection.data import build_data
from ebjr_det.tasks.detection.datasets import digit_scenes
from ebjr_det.tasks.detection.datasets.digit_scenes import SIDE, SPLITS, describe, draw_scene, lay_out

SOME = range(60)


@pytest.fixture(scope="module")
def layouts():
    return [lay_out("test", index) for index in SOME]


@pytest.fixture(scope="module")
def described():
    return describe("calibration")


def test_one_layout_is_pinned():
    """Boxes and labels hang on numpy's generators and on Pillow's sizes, not on the pixels."""
    first = lay_out("test", 0)
    text = f"{first.boxes.astype(int).tolist()} {first.labels.tolist()}"
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "9bbd6df56ecf30f7", text


def test_a_scene_depends_on_its_split_and_number_alone(layouts):
    for index in (5, 0, 5):
        again = lay_out("test", index)
        np.testing.assert_array_equal(again.boxes, layouts[index].boxes)
        np.testing.assert_array_equal(again.labels, layouts[index].labels)
        assert draw_scene("test", index).tobytes() == draw_scene("test", index).tobytes()
    others = {lay_out(split, 0).boxes.tobytes() for split in SPLITS}
    assert len(others | {layouts[1].boxes.tobytes()}) == len(SPLITS) + 1


def test_the_splits_share_no_digit():
    pools = [set(range(1797)[SPLITS[name][1]]) for name in ("train", "calibration", "test")]
    assert [SPLITS[more][1] for more in ("routing", "trial")] == [SPLITS["calibration"][1], SPLITS["test"][1]]
    assert sorted(index for pool in pools for index in pool) == list(range(1797))
    images, labels = digit_scenes._digits()
    bunch = load_digits()
    assert sorted(image.tobytes() for image in images) == sorted(
        (image / 16).tobytes() for image in bunch.images
    )
    drawn = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for image, label in zip(bunch.images, bunch.target, strict=True):
        assert drawn[(image / 16).tobytes()] == label


def test_the_digits_of_a_scene_come_from_its_splits_pool(monkeypatch):
    images, _ = digit_scenes._digits()
    masked, used = digit_scenes._mask, set()

    def noted(glyph, generator):
        used.add(glyph.tobytes())
        return masked(glyph, generator)

    monkeypatch.setattr(digit_scenes, "_mask", noted)
    for split, (_, pool, _) in SPLITS.items():
        used.clear()
        for index in range(10):
            lay_out(split, index)
        assert len(used) > 10
        assert used <= {image.tobytes() for image in images[pool]}


def test_boxes_lie_in_the_picture_on_whole_pixels(layouts):
    boxes = np.concatenate([layout.boxes for layout in layouts])
    assert (boxes == boxes.round()).all()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= SIDE).all()
    counts = [len(layout.boxes) for layout in layouts]
    assert min(counts) >= 1
    assert max(counts) <= digit_scenes.MOST_DIGITS
    assert len(set(counts)) > 5


def test_boxes_are_tight_round_the_ink(layouts):
    for layout in layouts:
        for box, mask in zip(layout.boxes, layout.masks, strict=True):
            assert mask.shape == (box[3], box[2])
            for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
                assert edge.max() > 0.3


def test_the_ink_in_the_picture_lies_in_the_boxes(monkeypatch):
    """Painted on a plain ground, what a digit changes is in its box and fills it."""
    grey = np.full((SIDE, SIDE, 3), 127, np.float32)
    monkeypatch.setattr(digit_scenes, "_ground", lambda _: grey.copy())
    plain = np.random.default_rng(0)
    for index in range(12):
        layout = lay_out("test", index)
        canvas = grey.copy()
        for box, mask in zip(layout.boxes, layout.masks, strict=True):
            before = canvas.copy()
            digit_scenes._paint(canvas, mask, box[:2].astype(int), plain)
            rows, columns = np.nonzero((np.abs(canvas - before) > 3).any(axis=2))
            x, y, width, height = box
            assert columns.min() >= x
            assert columns.max() < x + width
            assert rows.min() >= y
            assert rows.max() < y + height
            inked = (columns.max() - columns.min() + 1) * (rows.max() - rows.min() + 1)
            assert inked >= 0.7 * width * height


def test_sizes_go_from_small_to_large(layouts):
    heights = np.concatenate([layout.boxes[:, 3] for layout in layouts])
    areas = np.concatenate([layout.truth.areas for layout in layouts])
    assert heights.min() < 16
    assert heights.max() > 90
    for low, high in ((0, 32**2), (32**2, 96**2), (96**2, 1e9)):  # COCO's small, medium, large
        assert ((areas >= low) & (areas < high)).mean() > 0.01


def test_no_digit_covers_another_too_much(layouts):
    for layout in layouts:
        for first in range(len(layout.boxes)):
            for second in range(first):
                (x0, y0, w0, h0), (x1, y1, w1, h1) = layout.boxes[[first, second]]
                wide = min(x0 + w0, x1 + w1) - max(x0, x1)
                high = min(y0 + h0, y1 + h1) - max(y0, y1)
                assert max(wide, 0) * max(high, 0) <= 0.3 * min(w0 * h0, w1 * h1)


def test_every_digit_is_drawn(layouts):
    assert set(np.concatenate([layout.labels for layout in layouts])) == set(range(10))


def test_the_annotations_are_the_layouts(described):
    assert len(described) == SPLITS["calibration"][2] == len(set(described.file_names))
    assert described.image_ids == tuple(range(1, 201))
    assert (described.sizes == SIDE).all()
    assert dict(zip(described.category_ids, described.class_names, strict=True)) == {
        digit + 1: str(digit) for digit in range(10)
    }
    for index in (0, 7, 199):
        layout, truth = lay_out("calibration", index), described.truths[index]
        np.testing.assert_array_equal(truth.boxes, layout.boxes)
        np.testing.assert_array_equal(truth.labels, layout.labels)
        np.testing.assert_array_equal(truth.areas, layout.boxes[:, 2] * layout.boxes[:, 3])
        assert not truth.crowd.any()


def test_the_data_set_draws_the_scene_that_its_annotations_describe(described):
    data = build_data("digit_scenes", split="calibration", ids=[8, 3])
    assert data.image_ids == ("3", "8")
    for index, number in enumerate((2, 7)):
        assert data.load(index).tobytes() == draw_scene("calibration", number).tobytes()
        np.testing.assert_array_equal(data.target(index).truth.boxes, described.truths[number].boxes)
    opened = data.load(0)
    assert (opened.mode, opened.size) == ("RGB", (SIDE, SIDE))


def test_scenes_are_lively_pictures():
    for index in range(5):
        pixels = np.asarray(draw_scene("train", index)).astype(float)
        assert pixels.std() > 10
