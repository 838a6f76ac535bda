"""Frames come back in order, number, rate and colour; whatever a file lacks is named with its frame."""

import sys
import wave
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io import video
from ebjr_det.io.video.reading import is_camera, open_camera, open_video
from ebjr_det.io.video.writing import write_video

SIZE, FPS, COUNT = (96, 64), Fraction(30000, 1001), 24
NOISE = np.random.default_rng(0).integers(0, 60, (COUNT, 64, 96, 3))


def level(index: int) -> int:
    return 30 + 8 * index


def frame(index: int) -> Image.Image:
    """A grey that tells the index, and a red half."""
    pixels = np.full((SIZE[1], SIZE[0], 3), level(index), np.uint8)
    pixels[:, SIZE[0] // 2 :] = (213, 94, 0)
    return Image.fromarray(pixels)


def write(path: Path, count: int = COUNT) -> Path:
    with write_video(path, SIZE, FPS) as film:
        for index in range(count):
            film.add(frame(index))
    return path


def encode(path: Path, size=SIZE, count: int = COUNT, codec="libx264", **options):
    """A video from PyAV alone: noise, so that every frame takes bytes."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(count):
            pixels = NOISE[index][: size[1], : size[0]].astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def read(path: Path) -> list[np.ndarray]:
    with open_video(path) as footage:
        return [np.asarray(picture).astype(int) for _, _, picture in footage.frames]


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


# --- Whole ---


def test_frames_come_back_in_order_rate_and_colour(tmp_path):
    path = write(tmp_path / "a.mp4")
    with open_video(path) as footage:
        assert (footage.fps, footage.count, footage.live) == (FPS, COUNT, False)
        pictures = [np.asarray(picture).astype(int) for _, _, picture in footage.frames]
    assert len(pictures) == COUNT
    for index, pixels in enumerate(pictures):
        assert pixels.shape == (SIZE[1], SIZE[0], 3)
        np.testing.assert_allclose(pixels[8:-8, 8:40].mean((0, 1)), level(index), atol=2)
        np.testing.assert_allclose(pixels[8:-8, 56:-8].mean((0, 1)), (213, 94, 0), atol=4)


def test_the_file_is_h264_in_420_with_its_index_in_front(tmp_path):
    path = write(tmp_path / "a.mp4")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(COUNT) / float(FPS), atol=1e-3)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


# --- Not written ---


@pytest.mark.parametrize("size", [(95, 64), (96, 63)])
def test_an_odd_size_is_refused(tmp_path, size):
    with pytest.raises(InvalidInput, match="even width"), write_video(tmp_path / "a.mp4", size, FPS):
        pass
    assert not list(tmp_path.iterdir())


def test_a_film_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("old")

    def fail() -> None:
        with write_video(path, SIZE, FPS) as film:
            film.add(frame(0))
            film.add(frame(1).resize((32, 32)))

    with pytest.raises(InvalidInput, match="Expected a frame of"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_codec_is_found_where_the_usual_one_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(video.writing, "codecs_available", {"mpeg4"})
    assert len(read(write(tmp_path / "a.mp4"))) == COUNT
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


# --- Not whole ---


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_that_was_cut_is_named_with_the_frame(tmp_path, name, share):
    options = {"movflags": "+faststart"} if name == "a.mp4" else {}
    path = cut(encode(tmp_path / name, **options), share)
    seen: list[object] = []

    def look() -> None:
        with open_video(path) as footage:
            seen.extend(footage.frames)

    with pytest.raises(InvalidInput, match="breaks off at frame") as caught:
        look()
    assert f"frame {len(seen) + 1}:" in str(caught.value)
    assert len(seen) < COUNT


def test_fewer_frames_than_are_there_need_no_whole_file(tmp_path):
    path = cut(encode(tmp_path / "a.mp4", movflags="+faststart"), 0.8)
    with open_video(path) as footage:
        assert len(list(islice(footage.frames, 5))) == 5


def test_a_damaged_middle_is_named_with_the_frame(tmp_path):
    path = encode(tmp_path / "a.mp4", movflags="+faststart")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) * 3 // 4] = bytes(len(content) // 4)
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"breaks off at frame \d+"):
        read(path)


def test_a_lost_index_is_no_video(tmp_path):
    path = cut(encode(tmp_path / "a.mp4"), 0.9)
    with pytest.raises(InvalidInput, match="no video, or one that was cut"):
        read(path)


def test_a_change_of_size_is_named_with_the_frame(tmp_path):
    parts = [encode(tmp_path / "a.h264"), encode(tmp_path / "b.h264", (64, 48))]
    whole = tmp_path / "c.h264"
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InvalidInput, match=f"96 x 64, got 64 x 48 at frame {COUNT + 1}"):
        read(whole)


def test_a_video_without_frames_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    with wave.open(str(tmp_path / "b.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    for name in ("a.mp4", "b.wav"):
        with pytest.raises(InvalidInput, match="no frames to decode"):
            read(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello " * 100])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(InvalidInput, match="Expected a video at"):
        read(tmp_path / "a.mp4")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="No such file"):
        read(tmp_path / "a.mp4")


# --- Cameras ---


def test_names_of_cameras():
    assert all(map(is_camera, ("camera:0", "camera:Front", "/dev/video3")))
    assert not any(map(is_camera, ("camera.mp4", "/dev/null", "videos/dev/video0")))


def test_a_camera_sees_pictures_with_times(monkeypatch):
    monkeypatch.setitem(video.reading.CAMERAS, sys.platform, ("lavfi", "testsrc=size=64x48:rate=20:n={}", {}))
    with open_camera("camera:0") as footage:
        frames = list(islice(footage.frames, 4))
    assert (footage.live, footage.fps, footage.count) == (True, 20, None)
    assert {shot.picture.size for shot in frames} == {(64, 48)}
    assert [shot.start for shot in frames] == [0, Fraction(1, 20), Fraction(1, 10), Fraction(3, 20)]


def test_an_unknown_camera_is_named():
    with pytest.raises(InvalidInput, match="Expected a camera at `camera:97`"), open_camera("camera:97"):
        pass
