"""What a demo films: a moving picture alone frame by frame, in a folder its first frame."""

import warnings

import numpy as np
import pytest
from PIL import Image

from ebjr_det.io.pictures import count_frames, frames_of
from ebjr_det.io.source import Source


@pytest.fixture
def frames():
    levels = np.random.default_rng(0).integers(256, size=(3, 5, 8, 3), dtype=np.uint8)
    return [Image.fromarray(frame) for frame in levels]


def save(path, frames, **options):
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100, **options)
    return path


def test_a_moving_picture_in_a_folder_is_its_first_frame(tmp_path, frames):
    save(tmp_path / "x.png", frames)
    with Source.of(str(tmp_path)).open() as footage:
        (shot,) = footage.frames
    assert any(np.array_equal(np.asarray(part), np.asarray(frames[0])) for part in shot)
    assert Source.of(str(tmp_path / "x.png")).moves == 3


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_every_frame_is_turned_as_a_still_picture_is(tmp_path, frames, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    lossless = {"lossless": True} if suffix == ".webp" else {}
    path = save(tmp_path / f"x{suffix}", frames, exif=exif, **lossless)
    seen = [np.asarray(frame) for frame, _ in frames_of(path)]
    assert len(seen) == 3
    for frame, stored in zip(seen, frames, strict=True):
        np.testing.assert_array_equal(frame, np.rot90(np.asarray(stored), -1))


def test_what_is_too_large_is_no_film_and_warns_of_nothing(tmp_path, frames, monkeypatch):
    path = save(tmp_path / "x.png", frames)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert count_frames(path) == 0
    assert not said
