"""The classifiers' preprocessing against torchvision's own transforms, to the bit, and theirs as numbers."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    RandomCrop,
    Resize,
    ToTensor,
    v2,
)

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.tasks.classification.networks.preprocessing import (
    IMAGENET_STATISTICS,
    INTERPOLATIONS,
    OnPil,
    Preprocessing,
    described,
    parse_preprocessing,
    to_pil,
)

GREY = ((0.3,), (0.2,))


def torchvisions(own: Preprocessing):
    steps = []
    if own.resize is not None:
        steps.append(v2.Resize(own.resize, InterpolationMode(own.interpolation)))
    if own.crop is not None:
        steps.append(v2.CenterCrop(own.crop))
    first = [to_pil] if steps else []
    return v2.Compose([*first, *steps, ToTensor(), v2.Normalize(own.mean, own.std)])


def picture(height, width, kind, seed=0):
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    if kind == "array":
        return pixels
    if kind == "grey array":
        return pixels[:, :, 0]
    if kind == "float array":
        return pixels[:, :, 0].astype(np.float32) / 255
    return Image.fromarray(pixels).convert(kind)


def assert_same(own, image):
    expected, got = torchvisions(own)(image), own(image)
    assert (got.dtype, got.shape) == (np.float32, tuple(expected.shape))
    np.testing.assert_array_equal(got, expected.numpy())
    tensor = own.build()(image)
    assert type(tensor) is torch.Tensor
    assert torch.equal(tensor, expected)


sides = st.none() | st.integers(1, 60) | st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    sides,
    sides,
    st.sampled_from(sorted(INTERPOLATIONS)),
    st.sampled_from(["array", "RGB", "L", "grey array", "1", "float array"]),
)
def test_every_image_becomes_what_torchvision_makes_of_it(height, width, resize, crop, interpolation, kind):
    own = Preprocessing(*IMAGENET_STATISTICS, resize, crop, interpolation)
    assert_same(own, picture(height, width, kind, seed=height))


@pytest.mark.parametrize("kind", ["LA", "RGBA", "CMYK", "P"])
@pytest.mark.parametrize("crop", [None, 10, 33])
def test_other_modes_too(kind, crop):
    assert_same(Preprocessing(*GREY, 21, crop), picture(20, 31, kind))


def test_interpolations_are_those_of_torchvision():
    assert set(INTERPOLATIONS) == {mode.value for mode in InterpolationMode}


def test_neither_the_image_nor_an_array_is_written_to():
    pixels = picture(8, 8, "float array")
    before = pixels.copy()
    Preprocessing(*GREY)(pixels)
    np.testing.assert_array_equal(pixels, before)


def test_numbers_that_json_and_a_worker_can_carry():
    own = Preprocessing(*IMAGENET_STATISTICS, 20, (10, 12), "bicubic")
    assert parse_preprocessing(json.loads(json.dumps(dataclasses.asdict(own)))) == own
    image = picture(30, 40, "RGB")
    assert torch.equal(pickle.loads(pickle.dumps(own.build()))(image), own.build()(image))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interpolation": "bicubik"}, "got `bicubik`. Did you mean `bicubic`"),
        ({"resize": 0}, "Expected `resize` to be a whole number from 1"),
        ({"crop": "big"}, "Expected `crop` to be a whole number from 1"),
        ({"crop": [1, 2, 3]}, "or two of them"),
        ({"std": (1.0, 0.0, 1.0)}, "Expected `std` above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        parse_preprocessing({"mean": (0.5,) * 3, "std": (0.5,) * 3} | wrong)


def test_an_image_of_other_numbers_is_refused():
    with pytest.raises(InvalidInput, match="got int64"):
        Preprocessing(*IMAGENET_STATISTICS)(np.zeros((4, 4, 3), np.int64))


# --- Libraries' transforms as numbers ---


def timms(name):
    import timm
    from timm.data import create_transform, resolve_model_data_config

    return create_transform(**resolve_model_data_config(timm.create_model(name)), is_training=False)


def libraries():
    for name in ("resnet18", "mobilenetv3_small_100", "efficientnet_b0", "inception_v3", "test_resnet"):
        yield pytest.param(timms, name, id=f"timm/{name}")
    for name in ("resnet18", "vit_b_16", "efficientnet_b0"):
        yield pytest.param(
            lambda name: models.get_model_weights(name).DEFAULT.transforms(), name, id=f"torchvision/{name}"
        )


@pytest.mark.parametrize(("library", "name"), [*libraries()])
@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (57, 33), (256, 256)])
def test_a_librarys_transform_as_numbers_is_the_same_to_the_bit(library, name, shape):
    transform = library(name)
    own, image = described(OnPil(transform)), picture(*shape, "RGB")
    assert own is not None
    assert own == described(transform)
    assert own.resize is not None
    np.testing.assert_array_equal(own(image), transform(image).numpy())
    assert json.loads(json.dumps(own.mean)) == list(own.mean)


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_presets_numbers_hold_for_every_shape(height, width, resize, crop):
    from torchvision.transforms._presets import ImageClassification

    preset = ImageClassification(crop_size=crop, resize_size=resize)
    own = described(preset)
    image = picture(height, width, "RGB", seed=width)
    np.testing.assert_array_equal(own(image), preset(image).numpy())


def test_squashing_and_our_own_are_numbers_too():
    own = Preprocessing(*IMAGENET_STATISTICS, 30, 20, "bicubic")
    assert described(own) == described(own.build()) == described(torchvisions_without_wrap(own)) == own
    squash = Compose([Resize((30, 20)), ToTensor(), Normalize(*IMAGENET_STATISTICS)])
    assert described(squash) == Preprocessing(*IMAGENET_STATISTICS, (30, 20))
    image = picture(21, 45, "RGB")
    np.testing.assert_array_equal(described(squash)(image), squash(image).numpy())


def torchvisions_without_wrap(own):
    return v2.Compose(torchvisions(own).transforms[1:])


LAST = [ToTensor(), Normalize(*IMAGENET_STATISTICS)]


@pytest.mark.parametrize("other", [
    lambda image: image, Compose([]), Compose([ToTensor()]), Compose([Resize(20, max_size=30), *LAST]),
    Compose([CenterCrop(20), Resize(20), *LAST]), Compose([Resize(20), RandomCrop(10), *LAST]),
    Compose([Resize(20), *LAST, nn.Identity()]), Compose([ToTensor(), Resize(20), LAST[1]]),
    OnPil(lambda image: image),
])  # fmt: skip
def test_any_other_transform_is_no_numbers(other):
    assert described(other) is None


def test_timms_border_mode_is_no_numbers():
    from timm.data import create_transform

    assert described(create_transform(64, is_training=False, crop_mode="border")) is None
