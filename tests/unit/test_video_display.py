"""A frame has the pixels that a player shows: turned, mirrored, its pixels square, its colours the file's."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.video.display import Display
from ebjr_det.io.video.reading import open_video
from ebjr_det.io.video.writing import write_video

SIZE = (96, 64)
ONE = 1 << 16
# Of a display matrix (x, y) -> (ax + cy, bx + dy): a, b, c, d, and what a player shows of the picture.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda pixels: pixels),
    "mirrored": ((-1, 0, 0, 1), lambda pixels: pixels[:, ::-1]),
    "half a turn": ((-1, 0, 0, -1), lambda pixels: pixels[::-1, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda pixels: pixels[::-1]),
    "transposed": ((0, 1, 1, 0), lambda pixels: pixels.swapaxes(0, 1)),
    "clockwise": ((0, 1, -1, 0), lambda pixels: np.rot90(pixels, -1)),
    "transposed the other way": ((0, -1, -1, 0), lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1]),
    "anticlockwise": ((0, -1, 1, 0), lambda pixels: np.rot90(pixels)),
}


def corners(size=SIZE) -> np.ndarray:
    """A grey picture in whose quarters stand other colours, none of which looks like another when turned."""
    pixels = np.full((size[1], size[0], 3), 60, np.uint8)
    high, wide = size[1] // 2, size[0] // 2
    pixels[:high, :wide], pixels[:high, wide:], pixels[high:, :wide] = (200, 40, 40), (40, 200, 40), 220
    return pixels


def encode(path: Path, matrix=None, pixels=None, aspect=None, colours=None, full=False, pix_fmt="yuv444p"):
    pixels = corners() if pixels is None else pixels
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = pix_fmt
        if matrix is not None:
            a, b, c, d = (round(ONE * axis) for axis in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if colours is not None:
            stream.codec_context.colorspace = colours
        stream.codec_context.color_range = 2 if full else 1
        for turn in range(2):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(
                format=pix_fmt, dst_colorspace=colours or 5, dst_color_range=2 if full else 1
            )
            frame.pts, frame.time_base = turn, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def first(path: Path) -> np.ndarray:
    with open_video(path) as footage:
        return np.asarray(next(footage.frames).picture).astype(int)


def middles(pixels: np.ndarray) -> np.ndarray:
    """Colours in the middles of the quarters."""
    high, wide = pixels.shape[0] // 4, pixels.shape[1] // 4
    return pixels[[high, high, -high, -high], [wide, -wide, wide, -wide]]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(("matrix", "shown"), ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_all_eight_orientations_are_shown_as_a_player_does(tmp_path, matrix, shown, name):
    stored = first(encode(tmp_path / f"stored-{name}"))
    np.testing.assert_allclose(stored, corners(), atol=12)
    np.testing.assert_array_equal(first(encode(tmp_path / name, matrix)), shown(stored))


@pytest.mark.parametrize("scale", [0.5, 2])
def test_what_a_matrix_scales_and_half_a_degree_change_nothing(tmp_path, scale):
    cosine, sine = scale * np.cos(np.deg2rad(0.5)), scale * np.sin(np.deg2rad(0.5))
    found = first(encode(tmp_path / "a.mp4", (sine, cosine, -cosine, sine)))
    np.testing.assert_array_equal(found, np.rot90(first(encode(tmp_path / "b.mp4")), -1))


def test_a_matrix_of_zeros_is_as_players_take_it_none(tmp_path):
    np.testing.assert_allclose(first(encode(tmp_path / "a.mp4", (0, 0, 0, 0))), corners(), atol=12)


@pytest.mark.parametrize("degrees", [10, 45, 100])
def test_another_angle_is_told(tmp_path, degrees):
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    path = encode(tmp_path / "a.mp4", (cosine, sine, -sine, cosine))
    with pytest.raises(InvalidInput, match=r"a\.mp4` to be shown turned by quarters or mirrored"):
        first(path)


@pytest.mark.parametrize(("matrix", "size"), [((1, 0, 0, 1), (140, 64)), ((0, 1, -1, 0), (64, 140))])
def test_pixels_that_are_not_square_are_shown_square(tmp_path, matrix, size):
    """As of a PAL disc: 96 stored columns are 140 wide, before the picture is turned."""
    found = first(encode(tmp_path / "a.mp4", matrix, aspect=Fraction(16, 11)))
    assert found.shape[1::-1] == size
    wanted = middles(corners() if size[0] > size[1] else np.rot90(corners(), -1))
    np.testing.assert_allclose(middles(found), wanted, atol=12)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le", "yuv422p"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("colours", [1, 5, 9])  # of BT.709, BT.601, BT.2020
def test_colours_are_those_that_the_file_states(tmp_path, pix_fmt, full, colours):
    found = first(encode(tmp_path / "a.mp4", colours=colours, full=full, pix_fmt=pix_fmt))
    np.testing.assert_allclose(middles(found), middles(corners().astype(int)), atol=5)


@pytest.mark.parametrize(("size", "colours"), [((1280, 720), 1), ((720, 576), 5)])
def test_unstated_colours_are_taken_by_the_size_as_players_do(size, colours):
    pixels = corners(size)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame = frame.reformat(format="yuv444p", dst_colorspace=colours)
    frame.colorspace = 2
    found = np.asarray(Display(None, "a.mp4").show(frame)).astype(int)
    np.testing.assert_allclose(middles(found), middles(pixels), atol=5)


def level_of(light: float) -> int:
    """Of a screen whose white is 203 cd/m2, as BT.2408 has it."""
    return round(255 * min(1.0, light / 203) ** (1 / 2.4))


def test_high_dynamic_range_has_the_light_that_its_curve_states():
    """SMPTE ST 2084: cd/m2 of a code, here of five grey stripes."""
    codes = np.array([30, 60, 90, 120, 180])
    root = (codes / 255) ** (32 / 2523)
    light = 1e4 * (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    stripes = np.broadcast_to(np.repeat(codes, 32)[:, None], (64, 160, 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(stripes, format="rgb24")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
    frame.colorspace, frame.color_primaries, frame.color_trc = 9, 9, 16
    found = np.asarray(Display(None, "a.mp4").show(frame)).astype(int).reshape(64, 5, 32, 3)
    for level, stripe in zip(map(level_of, light), found[:, :, 4:-4].mean((0, 2)), strict=True):
        np.testing.assert_allclose(stripe, level, atol=6)


def test_odd_sizes_keep_every_pixel(tmp_path):
    pixels = corners((97, 65))
    np.testing.assert_allclose(
        middles(first(encode(tmp_path / "a.mp4", pixels=pixels))), middles(pixels), atol=5
    )


def test_of_two_streams_the_one_that_players_show_is_read(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        streams[1].disposition = av.stream.Disposition.default
        for level, stream in zip((30, 200), streams, strict=True):
            pixels = np.full((SIZE[1], SIZE[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
    with av.open(str(tmp_path / "a.mkv")) as container:
        if not container.streams.video[1].disposition & av.stream.Disposition.default:
            pytest.fail("the file has no default stream")
    assert first(tmp_path / "a.mkv").mean() == pytest.approx(200, abs=3)


NAMES = ["2024-03-01T12:30:00.mp4", "-clip.mp4", "a%d.mp4", "what?.mp4", "a#1.mp4", "a|b.mp4", "concat:a.mp4"]
NAMES += ["file:a.mp4", "pipe:0.mp4", "a b%20c.mp4", "[1].mp4", "*.mp4", "\u732b.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_a_file_can_have_is_read_and_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with write_video(Path(name), SIZE, Fraction(10)) as film:
        film.add(Image.fromarray(corners()))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    np.testing.assert_allclose(middles(first(Path(name))), middles(corners()), atol=5)
