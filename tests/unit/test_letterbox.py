"""The letterbox against effdet's evaluation transform, to the bit, whatever the picture's shape and mode."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.tasks.detection.networks.efficientdet import build_network  # silences effdet's import
from ebjr_det.tasks.detection.networks.letterbox import Input, Letterbox

assert build_network
from effdet.data.transforms import transforms_coco_eval  # noqa: E402

IMAGENET = (0.485, 0.456, 0.406)
HALF = (0.5, 0.5, 0.5)


def picture(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def assert_same(image, size, mean):
    got = Letterbox(size, mean)(image)
    pixels, how = transforms_coco_eval(size, use_prefetcher=True, mean=mean)(image, {})
    assert type(got) is Input
    assert (got.pixels.dtype, got.pixels.shape) == (np.uint8, (3, *size))
    np.testing.assert_array_equal(got.pixels, pixels)
    assert got.scale == how["img_scale"]
    assert got.size == image.size


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([(128, 128), (128, 256), (256, 128)]),
    st.sampled_from([IMAGENET, HALF, (0.0, 1.0, 0.5)]),
    st.integers(0, 9),
)
def test_any_picture_becomes_what_effdet_makes_of_it(width, height, size, mean, seed):
    assert_same(picture(width, height, seed=seed), size, mean)


@pytest.mark.parametrize("shape", [(640, 426), (300, 700), (512, 512), (1, 1), (511, 513)])
def test_pictures_of_usual_sizes_too(shape):
    assert_same(picture(*shape), (512, 512), IMAGENET)


def test_sixteen_bits_are_not_clipped_and_floats_are_refused():
    deep = np.random.default_rng(0).integers(65536, size=(30, 40), dtype=np.uint16)
    plain = Image.fromarray((deep >> 8).astype(np.uint8))
    box = Letterbox((128, 128), IMAGENET)
    np.testing.assert_array_equal(box(Image.fromarray(deep)).pixels, box(plain).pixels)
    with pytest.raises(InvalidInput, match="floats"):
        box(Image.fromarray(deep.astype(np.float32)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "1"])
def test_a_picture_of_another_mode_becomes_rgb_as_effdet_makes_it(mode):
    assert_same(picture(40, 30, mode), (128, 128), IMAGENET)


@pytest.mark.parametrize("shape", [(1000, 1), (1, 1000), (4000, 20)])
def test_a_picture_too_thin_for_one_pixel_is_made_thicker(shape):
    image = picture(*shape)
    with pytest.raises(ValueError, match="height and width must be > 0"):
        transforms_coco_eval((128, 128), use_prefetcher=True)(image, {})
    got = Letterbox((128, 128), IMAGENET)(image)
    assert got.size == shape
    least = max(shape) // 128 + 1
    thick = image.resize((max(shape[0], least), max(shape[1], least)))
    pixels, how = transforms_coco_eval((128, 128), use_prefetcher=True, mean=IMAGENET)(thick, {})
    np.testing.assert_array_equal(got.pixels, pixels)
    assert got.scale == how["img_scale"]


def test_it_is_plain_numbers_that_json_and_a_worker_can_carry():
    own = Letterbox((128, 256), IMAGENET)
    assert Letterbox(**json.loads(json.dumps(dataclasses.asdict(own)))) == own
    assert pickle.loads(pickle.dumps(own)) == own


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(InvalidInput, match="got one of 0 x 5"):
        Letterbox((128, 128), IMAGENET)(Image.new("RGB", (0, 5)))
