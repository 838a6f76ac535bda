"""What is seen at a second of a source is read at that second, and written at it, to the tick."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.video.clock import Clock
from ebjr_det.io.video.reading import open_video
from ebjr_det.io.video.writing import write_video

TURN, MS = Fraction(1, 10), Fraction(1, 1000)
TIMES = [0, 100, 200, 500, 600, 700, 5000, 5100, 5200, 5300]  # ms: two gaps, in each of which B-frames meet
LATER = [time + 2000 for time in TIMES]


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (64, 48), (level,) * 3)


def encode(path: Path, times=TIMES, codec="libx264", sound: bool = False, container=None, rate=10, base=MS):
    """A video from PyAV alone, in which the brightness tells the number of the frame."""
    with av.open(str(path), "w", format=container) as film:
        voice = film.add_stream("aac", rate=48000) if sound else None
        stream = film.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = base
        for index, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(np.asarray(grey(20 + 20 * index)), format="rgb24")
            picture = picture.reformat(format="yuv420p")
            picture.pts, picture.time_base = round(time * MS / base), base
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
            for index in range(20):
                silence.rate, silence.pts, silence.time_base = 48000, 1024 * index, Fraction(1, 48000)
                film.mux(voice.encode(silence))
            film.mux(voice.encode())
    return path


def read(path: Path) -> list[tuple[float, float | None, int]]:
    """Start and end in ms, and the number that the brightness tells."""
    with open_video(path) as footage:
        return [
            (
                round(1000 * start),
                None if end is None else round(1000 * end),
                round((np.asarray(picture).mean() - 20) / 20),
            )
            for start, end, picture in footage.frames
        ]


def between(times, last) -> list[tuple[float, float, int]]:
    ends = [*times[1:], last]
    return [(start, end, index) for index, (start, end) in enumerate(zip(times, ends, strict=True))]


# --- Read ---


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.webm"])
def test_every_frame_is_seen_from_its_time_until_the_next_one(tmp_path, name):
    path = encode(tmp_path / name, codec="libvpx" if name == "a.webm" else "libx264")
    assert read(path) == between(TIMES, 5400)


@pytest.mark.parametrize("name", ["a.ts", "a.flv"])
def test_a_clock_that_does_not_begin_at_0_is_counted_from_the_start(tmp_path, name):
    assert read(encode(tmp_path / name)) == between(TIMES, None)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_picture_that_begins_after_its_sound_is_held_from_the_start(tmp_path, name):
    path = encode(tmp_path / name, LATER, sound=True)
    assert read(path) == between([0, *LATER[1:]], 7400)


def test_sound_that_begins_before_0_shifts_nothing(tmp_path):
    with av.open(str(encode(tmp_path / "a.mp4", sound=True))) as container:
        assert any(stream.type == "audio" for stream in container.streams)
    assert read(tmp_path / "a.mp4") == between(TIMES, 5400)


def test_avi_has_no_times_of_being_seen_and_its_frames_stay_in_step(tmp_path):
    path = encode(tmp_path / "a.avi", [100 * index for index in range(10)], base=TURN)
    assert [start for start, *_ in read(path)] == [100 * index for index in range(10)]


def test_a_stream_without_times_has_a_turn_for_each_frame(tmp_path):
    path = encode(tmp_path / "a.h264", [40 * index for index in range(10)], rate=25)
    assert [(start, index) for start, _, index in read(path)] == [(40 * index, index) for index in range(10)]


def test_a_part_that_an_edit_list_leaves_out_is_not_seen(tmp_path):
    """The list says: begin at 0.4 s of the media, for 0.6 s."""
    path = encode(tmp_path / "a.mp4", [100 * index for index in range(10)])
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 8  # after its version, flags
    count, duration, _ = struct.unpack_from(">IIi", content, at)
    with av.open(str(path)) as container:
        ticks = container.streams.video[0].time_base.denominator
    began = struct.unpack_from(">i", content, at + 8)[0]
    assert count == 1
    struct.pack_into(">Ii", content, at + 4, round(0.6 * duration), began + round(0.4 * ticks))
    path.write_bytes(content)
    assert read(path) == [(100 * turn, 100 * turn + 100, turn + 4) for turn in range(6)]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_the_number_of_frames_is_told_only_where_it_is_known(tmp_path, name):
    with open_video(encode(tmp_path / name)) as footage:
        assert (footage.count, footage.steady) == ((10, False) if name == "a.mp4" else (None, False))
    even = encode(tmp_path / f"even-{name}", [100 * index for index in range(10)])
    with open_video(even) as footage:
        assert footage.steady == (name == "a.mp4")


# --- The clock ---


def seen(times: list[float | None], origin: float | None = None) -> list[float]:
    clock = Clock(None if origin is None else Fraction(origin), TURN)
    fractions = [None if time is None else Fraction(str(time)) for time in times]
    return [float(clock.seen(time)) for time in fractions]


@pytest.mark.parametrize(
    ("times", "origin", "wanted"),
    [
        ([3.0, 3.5, 9.0], None, [0, 0.5, 6.0]),
        ([3.0, 3.5, 9.0], 1.0, [0, 2.5, 8.0]),
        ([-1.0, -0.5, 0.0], 0.0, [0, 0.5, 1.0]),
        ([None, None, None], None, [0, 0.1, 0.2]),
        ([0.0, None, 0.5], None, [0, 0.1, 0.5]),
        ([0.0, 0.2, 0.1, 0.3], None, [0, 0.2, 0.201, 0.3]),  # disorder moves no other frame
        ([0.0, 0.2, 0.2, 0.4], None, [0, 0.2, 0.201, 0.4]),
        ([0.0, 50.0, 0.0, 0.3, 5.0], None, [0, 50.0, 50.1, 50.4, 55.1]),  # joined recordings
    ],
)
def test_times_of_files_become_times_that_grow(times, origin, wanted):
    assert seen(times, origin) == pytest.approx(wanted, abs=1e-9)


# --- Written ---


def stated_by(path: Path) -> tuple[list[float], float]:
    """Start times in seconds, and the length, from the boxes of the mp4 themselves, without a decoder."""
    content = path.read_bytes()
    assert b"ctts" not in content  # decoded in the order in which they are seen
    header, table = content.index(b"mdhd") + 4, content.index(b"stts") + 8
    scale, length = struct.unpack_from(">II", content, header + 12)
    rows = struct.iter_unpack(
        ">II", content[table + 4 : table + 4 + 8 * struct.unpack_from(">I", content, table)[0]]
    )
    steps = [step for count, step in rows for _ in range(count)]
    starts = np.concatenate([[0], np.cumsum(steps)[:-1]]) / scale
    return starts.tolist(), length / scale


def shown_by(path: Path) -> list[float]:
    """Times in seconds as another reader tells them."""
    reader, times = cv2.VideoCapture(str(path)), []
    while reader.read()[0]:
        times.append(reader.get(cv2.CAP_PROP_POS_MSEC) / 1000)
    return times


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("fps", [Fraction(10), Fraction(24000, 1001), Fraction(12345, 1000)])
def test_three_readers_find_the_times_that_were_written(tmp_path, fps, codec, monkeypatch):
    monkeypatch.setattr("ebjr_det.io.video.writing.codecs_available", {codec})
    starts = [Fraction(time, 1000) for time in (0, 40, 41, 5000, 7203, 10803)]
    with write_video(tmp_path / "a.mp4", (64, 48), fps) as film:
        for index, (start, end) in enumerate(zip(starts, [*starts[1:], Fraction(14)], strict=True)):
            film.add(grey(20 + 20 * index), start, end)
    wanted = [float(start) for start in starts]
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(14, abs=1e-4)
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == pytest.approx(wanted, abs=2e-5)
    assert [round((frame.to_ndarray(format="rgb24").mean() - 20) / 20) for frame in frames] == list(range(6))
    assert stated_by(tmp_path / "a.mp4") == (pytest.approx(wanted, abs=2e-5), pytest.approx(14, abs=1e-4))
    assert shown_by(tmp_path / "a.mp4") == pytest.approx(wanted, abs=2e-3)
    assert film.seconds == pytest.approx(14, abs=1e-4)


@pytest.mark.parametrize("fps", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), Fraction(25, 2)])
def test_turns_are_whole_ticks(tmp_path, fps):
    with write_video(tmp_path / "a.mp4", (64, 48), fps) as film:
        for index in range(10):
            film.add(grey(20 + 20 * index))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.base_rate) == (fps, fps)
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
    assert times == [index / fps for index in range(10)]


def test_a_frame_that_is_not_later_comes_a_tick_later(tmp_path):
    with write_video(tmp_path / "a.mp4", (64, 48), Fraction(10)) as film:
        for index, start in enumerate((0, Fraction(1, 2), Fraction(1, 2), 2)):
            film.add(grey(20 + 20 * index), Fraction(start))
    assert stated_by(tmp_path / "a.mp4")[0] == pytest.approx([0, 0.5, 0.5, 2], abs=2e-5)


def test_hours_without_a_frame_are_kept_and_more_than_a_film_can_hold_are_told(tmp_path):
    with write_video(tmp_path / "a.mp4", (64, 48), Fraction(10)) as film:
        for start in (0, 1, 28800, 28801):
            film.add(grey(99), Fraction(start))
    assert stated_by(tmp_path / "a.mp4") == (pytest.approx([0, 1, 28800, 28801]), pytest.approx(28801.1))

    def leave_out_more() -> None:
        with write_video(tmp_path / "b.mp4", (64, 48), Fraction(10)) as film:
            film.add(grey(99), Fraction(0))
            film.add(grey(99), Fraction(30000))

    with pytest.raises(InvalidInput, match=r"within 8 hours .* Give --fps\.$"):
        leave_out_more()
    assert not (tmp_path / "b.mp4").exists()
