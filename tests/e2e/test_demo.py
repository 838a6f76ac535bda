"""`demo` as a user runs it: films that decode to their end and tell what `predict` tells, or one line."""

import json
import os
import signal
import sys
import wave
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from common import DIGITS
from PIL import Image, ImageColor
from sklearn.datasets import load_digits

from ebjr_det.io import video
from ebjr_det.io.video.writing import VideoWriter, write_video
from ebjr_det.reporting.film import STUDENT, TEACHER

KEYS = {"frames", "unreadable", "seconds", "fps", "size", "deferred", "abstained", "deferral_rate"} | {
    "score", "threshold", "macs", "latency_ms", "load", "out", "in_front"
}  # fmt: skip
NONE, ALL = "--threshold=inf", "--threshold=-inf"
STATED = ("--set=student.macs=1e6", "--set=teacher.macs=7e6")
FPS, LEVELS = Fraction(30000, 1001), (40, 90, 140, 190, 65, 115, 165, 215)
COLORS = [np.array(ImageColor.getrgb(color), float) for color in (STUDENT, TEACHER)]


def write_pictures(folder: Path, count: int = 6) -> Path:
    """Every second one is a digit, the others lie between two digits."""
    folder.mkdir()
    digits = load_digits().images
    for index in range(count):
        mixed = digits[index] if index in (1, 4, 5) else (digits[index] + digits[index + 13]) / 2
        picture = Image.fromarray((mixed * 255 / 16).astype(np.uint8)).resize((32, 32))
        picture.convert("RGB").save(folder / f"{index}.png")
    return folder


def write_clip(path: Path) -> Path:
    """A video whose grey tells the number of the frame."""
    with write_video(path, (64, 48), FPS) as clip:
        for level in LEVELS:
            clip.add(Image.new("RGB", (64, 48), (level,) * 3))
    return path


def encode(path: Path, size: tuple[int, int] = (64, 48), count: int = 24, **options: str) -> Path:
    """Noise, so that every frame takes bytes; with no frame the head of a video alone."""
    pixels = np.random.default_rng(0).integers(0, 255, (count, size[1], size[0], 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        container.start_encoding()
        for each in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")))
        if count:
            container.mux(stream.encode())
    return path


@dataclass(frozen=True)
class Film:
    """A film decoded to its end, and what the command said of it."""

    said: dict[str, Any]
    frames: list[np.ndarray]
    times: list[float]
    fps: Fraction

    @property
    def borders(self) -> list[tuple[str, str]]:
        """Of each frame whose colours the first and the last picture stand in."""
        return [_borders(frame) for frame in self.frames]


def _borders(frame: np.ndarray) -> tuple[str, str]:
    rows = frame[frame.shape[0] // 3 :][:20].astype(float).mean(axis=0)
    inked = np.flatnonzero((rows < 200).any(axis=1))
    found = []
    for column in (inked[0] + 1, inked[-1] - 1):
        far = [np.abs(rows[column] - color).max() for color in COLORS]
        assert min(far) < 60, rows[column]
        found.append(("student", "teacher")[int(np.argmin(far))])
    return found[0], found[1]


def read(path: Path, said: dict[str, Any]) -> Film:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.frames == len(frames)
        assert not any(frame.is_corrupt for frame in frames)
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
        return Film(said, pixels, [float(frame.time) for frame in frames], stream.average_rate)


Filming = Callable[..., Film]


@pytest.fixture
def film(command, tmp_path, capfd) -> Filming:
    """A function: source and options of a command that ends well -> `Film`; with `counted` multiply-adds."""

    def run(source: object, *options: object, counted: bool = False) -> Film:
        out = tmp_path / "film.mp4"
        options += () if counted else STATED
        scored = "--set=router.score=max_softmax"
        assert command("demo", DIGITS, source, scored, "--out", out, "--json", *options) == 0
        return read(out, json.loads(capfd.readouterr().out))

    return run


@pytest.fixture
def pictures(tmp_path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_clip(tmp_path / "clip.mp4")


@pytest.fixture
def camera(monkeypatch) -> str:
    """The name of a camera of 20 pictures a second that loses the second one and has no end."""
    seen = "testsrc=size=64x48:rate=20:n={},select=not(eq(n\\,1))"
    monkeypatch.setitem(video.reading.CAMERAS, sys.platform, ("lavfi", seen, {}))
    return "camera:0"


# --- What is filmed ---


def test_every_frame_of_a_video_in_its_order_and_at_its_rate(film, clip):
    made = film(clip, NONE)
    assert len(made.frames) == made.said["frames"] == len(LEVELS)
    assert made.fps == FPS
    assert made.said["fps"] == pytest.approx(float(FPS))
    assert made.said["seconds"] == pytest.approx(len(LEVELS) / float(FPS))
    np.testing.assert_allclose(made.times, np.arange(len(LEVELS)) / float(FPS), atol=1e-3)
    height, width, _ = made.frames[0].shape
    assert made.said["size"] == [width, height]
    middles = [frame[height // 3 :, width // 2 - 20 :][:40, :40].mean() for frame in made.frames]
    np.testing.assert_allclose(middles, LEVELS, atol=4)


VARYING = [*range(0, 1000, 100), *range(5000, 6000, 100)]
"""Milliseconds at which a clip's frames are seen: its second half begins at 5 s."""


def write_varying(path: Path) -> Path:
    """Dark before 5 s, bright from then on; B-frames cross the gap."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in VARYING:
            pixels = np.full((48, 64, 3), 40 if time < 5000 else 200, np.uint8)
            each = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            each.pts, each.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(each))
        container.mux(stream.encode())
    return path


def bright(frame: np.ndarray) -> bool:
    height, width, _ = frame.shape
    return bool(frame[height // 3 :, width // 4 - 5 :][:40, :10].mean() > 120)


@pytest.mark.parametrize(("name", "beside"), [("a.mkv", []), ("a.mp4", ["--side-by-side"])])
def test_what_happens_at_a_second_of_the_source_happens_then_in_the_film(name, beside, film, tmp_path):
    made = film(write_varying(tmp_path / name), NONE, *beside)
    np.testing.assert_allclose(made.times, np.array(VARYING) / 1000, atol=1e-4)
    assert [bright(frame) for frame in made.frames] == [time >= 5000 for time in VARYING]
    assert made.said["seconds"] == pytest.approx(6, abs=1e-4)
    assert made.said["fps"] == pytest.approx(20 / 6, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "options", "count", "length"),
    [
        ("a.mp4", ["--seconds", 0.5], 5, 0.5),
        ("a.mkv", ["--seconds", 3], 10, 3),
        ("a.mp4", ["--seconds", 5.05], 11, 5.05),
        ("a.mp4", ["--seconds", 9], 20, 6),
        ("a.mkv", ["--seconds", 9], 20, 6),
        ("a.mp4", ["--limit", 10], 10, 5),
        ("a.mkv", ["--limit", 12], 12, 5.2),
        ("a.mp4", ["--seconds", 3, "--fps", 20], 10, 0.5),
    ],
)
def test_seconds_are_those_of_the_source(name, options, count, length, film, tmp_path):
    made = film(write_varying(tmp_path / name), NONE, *options)
    assert made.said["frames"] == len(made.frames) == count
    assert made.said["seconds"] == pytest.approx(length, abs=1e-4)


def test_a_film_and_its_source_may_have_any_name(film, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "2024-03-01T12:30:00.mp4")
    assert command("demo", DIGITS, "2024-03-01T12:30:00.mp4", "--out", "film 12:31.mp4", NONE) == 0
    assert len(read(tmp_path / "film 12:31.mp4", {}).frames) == len(LEVELS)


def test_pictures_come_in_the_order_of_their_numbers(film, tmp_path):
    folder = tmp_path / "sequence"
    folder.mkdir()
    for index in (1, 2, 3, 9, 10, 11, 100):
        level = 40 if index < 10 else 200
        Image.new("RGB", (64, 48), (level,) * 3).save(folder / f"shot{index}.png")
    assert [bright(frame) for frame in film(folder, NONE).frames] == [False] * 4 + [True] * 3


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.apng", "a.webp"])
def test_a_picture_that_moves_is_filmed_frame_by_frame(name, film, tmp_path):
    levels, lengths = (40, 90, 140, 200), [100, 250, 0 if name == "a.gif" else 100, 400]
    first, *rest = [Image.new("RGB", (64, 48), (level,) * 3) for level in levels]
    kind = "PNG" if "png" in name else None
    first.save(tmp_path / name, kind, save_all=True, append_images=rest, duration=lengths)
    made = film(tmp_path / name, NONE)
    np.testing.assert_allclose(made.times, [0, 0.1, 0.35, 0.45], atol=1e-3)
    assert made.said["seconds"] == pytest.approx(0.85, abs=1e-3)
    height, width, _ = made.frames[0].shape
    middles = [frame[height // 3 :, width // 2 - 20 :][:40, :40].mean() for frame in made.frames]
    np.testing.assert_allclose(middles, levels, atol=4)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_a_picture_that_moves_and_was_cut_is_told(name, share, command, tmp_path, capfd):
    noise = np.random.default_rng(0).integers(0, 255, (9, 48, 64, 3), dtype=np.uint8)
    first, *rest = map(Image.fromarray, noise)
    path = tmp_path / name
    first.save(path, save_all=True, append_images=rest, duration=100)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert command("demo", DIGITS, path, "--out", tmp_path / "film.mp4", NONE) == 2
    assert f"Expected a whole picture at `{path}`, got: " in complaint(capfd.readouterr())
    assert not (tmp_path / "film.mp4").exists()


@pytest.mark.parametrize("source", ["clip", "pictures"])
def test_another_rate_keeps_all_frames(source, film, request):
    made = film(request.getfixturevalue(source), NONE, "--fps", 12.5)
    count = {"clip": len(LEVELS), "pictures": 6}[source]
    assert (made.fps, made.said["fps"]) == (Fraction(25, 2), 12.5)
    np.testing.assert_allclose(made.times, np.arange(count) / 12.5, atol=1e-3)
    assert made.said["seconds"] == pytest.approx(count / 12.5)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--limit", 1], 1),
        (["--limit", 100], 7),
        (["--limit", 10**30], 7),
        (["--seconds", 0.3], 3),
        (["--seconds", 0.05, "--fps", 100], 5),
        (["--seconds", 1e-9], 1),
        (["--seconds", 9], 7),
        (["--seconds", 1e308], 7),
        (["--seconds", 0.3, "--fps", 20], 6),
        (["--seconds", 0.3, "--limit", 2], 2),
        (["--seconds", 0.3, "--limit", 5], 3),
    ],
)
def test_the_end_comes_at_the_first_of_frames_seconds_and_source(options, count, film, tmp_path):
    made = film(write_pictures(tmp_path / "more", 7), NONE, *options)
    assert len(made.frames) == made.said["frames"] == count


def test_pictures_of_several_sizes_are_shown_whole_on_frames_of_one(film, tmp_path):
    sizes = [(64, 64), (32, 64), (90, 30), (64, 64), (300, 200)]
    folder = tmp_path / "sizes"
    folder.mkdir()
    for index, size in enumerate(sizes):
        Image.new("RGB", size, (0, 200, 0)).save(folder / f"{index}.png")
    made = film(folder, NONE)
    assert {frame.shape for frame in made.frames} == {made.frames[0].shape}
    assert made.said["frames"] == len(sizes)
    spans = []
    for frame, (width, height) in zip(made.frames, sizes, strict=True):
        green = (frame[..., 1] > 150) & (frame[..., 0] < 60) & (frame[..., 2] < 60)
        wide, high = np.ptp(np.flatnonzero(green.any(0))) + 1, np.ptp(np.flatnonzero(green.any(1))) + 1
        assert wide / high == pytest.approx(width / height, rel=0.03)
        assert green.sum() > 0.97 * wide * high
        spans.append((wide, high))
    np.testing.assert_allclose(spans[3], spans[0], atol=4)
    assert spans[1][0] < 0.6 * spans[0][0]
    assert spans[2][1] < 0.6 * spans[0][1]


def test_a_picture_that_is_none_is_named_once_and_left_out(command, pictures, tmp_path, capfd):
    (pictures / "0.png").write_text("no picture")
    out = tmp_path / "film.mp4"
    assert command("demo", DIGITS, pictures, "--out", out, NONE, "--json") == 0
    said, complained = capfd.readouterr()
    assert complained.count("Left out") == 1
    assert str(pictures / "0.png") in complained
    made = read(out, json.loads(said))
    assert (len(made.frames), made.said["frames"], made.said["unreadable"]) == (5, 5, 1)


def test_the_whole_start_of_a_video_that_was_cut_can_be_filmed(film, tmp_path):
    path = cut(encode(tmp_path / "a.mp4", movflags="+faststart"))
    assert film(path, NONE, "--limit", 3).said["frames"] == 3


def test_an_earlier_film_is_replaced(film, clip, tmp_path):
    (tmp_path / "film.mp4").write_text("old")
    assert len(film(clip, NONE, "--limit", 2).frames) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "film.mp4"]


# --- What it tells ---


@pytest.mark.parametrize("beside", [[], ["--side-by-side"]])
def test_who_answers_and_the_share_are_those_of_predict(beside, command, film, pictures, tmp_path, capfd):
    def predicted(threshold: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        given = [f"--threshold={threshold}", "--out", tmp_path / "out", "--json"]
        assert command("predict", DIGITS, pictures, "--set=router.score=max_softmax", *given) == 0
        entries = json.loads((tmp_path / "out" / "images.json").read_text())
        return json.loads(capfd.readouterr().out), entries

    scores = sorted(entry["deferral_score"] for entry in predicted(0.0)[1])
    threshold = (scores[3] + scores[4]) / 2
    summary, entries = predicted(threshold)
    who = [entry["answered_by"] for entry in entries]
    assert who.count("teacher") == 2
    assert who != sorted(who)
    assert who != who[::-1]
    made = film(pictures, f"--threshold={threshold}", *beside)
    assert [left for left, _ in made.borders] == who
    assert [right for _, right in made.borders] == (["teacher"] * len(who) if beside else who)
    same = ("unreadable", "deferred", "deferral_rate", "score", "threshold")
    assert {key: made.said[key] for key in same} == {key: summary[key] for key in same}
    assert made.said["frames"] == summary["images"]


def test_the_numbers_are_those_of_the_frames(film, pictures, tmp_path):
    none, mixed, every = (film(pictures, t, counted=True).said for t in (NONE, "--threshold=-0.95", ALL))
    assert set(none) == set(mixed) == set(every) == KEYS
    assert [said["deferral_rate"] for said in (none, every)] == [0, 1]
    assert [said["threshold"] for said in (none, mixed, every)] == [None, -0.95, None]
    assert 0 < mixed["deferred"] < mixed["frames"] == 6
    assert mixed["deferral_rate"] == mixed["deferred"] / 6
    teacher = none["macs"]["teacher"]
    assert 0 < none["macs"]["pair"] < teacher < every["macs"]["pair"]
    assert mixed["macs"]["pair"] == pytest.approx(none["macs"]["pair"] + mixed["deferral_rate"] * teacher)
    assert none["latency_ms"]["teacher"] is None
    assert 0 < every["latency_ms"]["teacher"] < every["latency_ms"]["pair"]
    assert none["latency_ms"]["pair"] > 0
    assert (none["abstained"], none["out"]) == (0, str(tmp_path / "film.mp4"))


def test_the_teacher_beside_the_pair_makes_the_film_wider_and_is_timed(film, pictures):
    alone, both = film(pictures, NONE), film(pictures, NONE, "--side-by-side")
    assert both.said["size"][0] > 1.3 * alone.said["size"][0]
    for made in (alone, both):
        assert made.said["size"] == list(made.frames[0].shape[1::-1])
    assert both.said["latency_ms"]["teacher"] > 0
    assert set(alone.borders) == {("student", "student")}
    assert set(both.borders) == {("student", "teacher")}
    assert (both.said["deferred"], both.said["macs"]) == (0, alone.said["macs"])


def test_people_read_the_share_and_the_file(command, pictures, tmp_path, capfd):
    out = tmp_path / "film.mp4"
    assert command("demo", DIGITS, pictures, "--out", out, ALL, "--limit", 2) == 0
    told, *noise, path = capfd.readouterr().out.splitlines()
    assert (told, path) == ("2 frames, 2 (100.0 %) answered by the teacher, 0 unreadable.", str(out))
    assert len(noise) <= 1  # beside other work one line says so
    assert all(line.endswith("CPUs: noisy.") for line in noise)


# --- Cameras and Ctrl-C ---


@pytest.mark.parametrize(
    ("options", "times"),
    [
        (["--limit", 4], [0.0, 0.1, 0.15, 0.2]),
        (["--seconds", 0.17], [0.0, 0.1, 0.15]),
        (["--limit", 3, "--fps", 40], [0.0, 0.025, 0.05]),
    ],
)
def test_a_camera_is_filmed_until_told(options, times, film, camera):
    made = film(camera, NONE, *options)
    np.testing.assert_allclose(made.times, times, atol=1e-3)
    assert made.said["frames"] == len(times)


@pytest.fixture
def interrupted(monkeypatch, clip):
    """Ctrl-C after the third frame; its handler must be back at the end.

    A shell makes its background jobs deaf to it, so Python's own handler is set first.
    """
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    add, before = VideoWriter.add, signal.default_int_handler

    def adding(self: VideoWriter, *args: Any) -> None:
        add(self, *args)
        if self.frames == 3:
            signal.raise_signal(signal.SIGINT)
        assert self.frames < 10, "Ctrl-C went unheard"

    monkeypatch.setattr(VideoWriter, "add", adding)
    yield
    left = signal.signal(signal.SIGINT, inherited)
    assert left is before


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_ends_the_film_of_a_camera_well(film, camera):
    made = film(camera, NONE)
    assert len(made.frames) == made.said["frames"] == 3


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_leaves_no_film_of_a_video(command, clip, tmp_path):
    assert command("demo", DIGITS, clip, "--out", tmp_path / "film.mp4", NONE) == 130
    assert list(tmp_path.iterdir()) == [clip]


# --- Bad input ---

LATE = 60
"""Frames after which a film that fails has reached the disk: an encoder holds its first ones."""
NO_VIDEO, BREAKS_OFF = "no video, or one that was cut", "which breaks off at frame"
MISTAKES: dict[str, tuple[str, list[str], str]] = {  # source, options, what the line says
    "missing video": ("nope.mp4", [NONE], "nope.mp4`, which is not there"),
    "empty name": ("", [NONE], "Expected pictures at ``"),
    "text": ("notes.txt", [NONE], "no frames to decode"),
    "text that players draw": ("notes.nfo", [NONE], "no frames to decode"),
    "text that is called a video": ("notes.mp4", [NONE], NO_VIDEO),
    "empty file": ("empty.mp4", [NONE], NO_VIDEO),
    "text that is called a picture": ("notes.png", [NONE], "got none among 1"),
    "video cut in the middle": ("cut.mp4", [NONE], BREAKS_OFF),
    "video cut before its index": ("lost.mp4", [NONE], NO_VIDEO),
    "video without frames": ("head.mp4", [NONE], "no frames to decode"),
    "sound": ("sound.wav", [NONE], "no frames to decode"),
    "size that changes": ("resized.h264", [NONE], f"64 x 48, got 32 x 48 at frame {LATE + 1}."),
    "folder without pictures": ("bare", [NONE], "a file, a folder or a pattern, got none"),
    "pattern of nothing": ("*.webp", [NONE], "a file, a folder or a pattern, got none"),
    "address": ("rtsp://camera/live?x=1", [NONE], "the address `rtsp://camera/live?x=1`. Save what is there"),
    "unknown camera": ("camera:97", [NONE], "Expected a camera at `camera:97`"),
    "unknown device": ("/dev/video97", [NONE], "Expected a camera at `/dev/video97`"),
    "fps 0": ("clip.mp4", [NONE, "--fps=0"], "`fps` to be between 0.01 and 1000, got 0."),
    "fps NaN": ("clip.mp4", [NONE, "--fps=nan"], "between 0.01 and 1000, got nan."),
    "fps infinite": ("clip.mp4", [NONE, "--fps=inf"], "between 0.01 and 1000, got inf."),
    "fps x": ("clip.mp4", [NONE, "--fps=x"], "--fps"),
    "limit 0": ("clip.mp4", [NONE, "--limit=0"], "a `limit` of at least 1 frame, got 0."),
    "seconds 0": ("clip.mp4", [NONE, "--seconds=0"], "`seconds` to be a number above 0, got 0."),
    "seconds NaN": ("clip.mp4", [NONE, "--seconds=nan"], "`seconds` to be a number above 0, got nan."),
    "no threshold": ("clip.mp4", [], "Expected a threshold, got none. Give --threshold"),
    "threshold NaN": ("clip.mp4", ["--threshold=nan"], "a threshold, finite or infinite, got NaN"),
    "threshold and rate": ("clip.mp4", [NONE, "--rate=0.2"], "either a threshold or a rate, got both"),
    "unknown key": ("clip.mp4", [NONE, "--set=student.dept=3"], "Did you mean `depth`"),
}
PLACES = {  # --out, what the line says
    "another kind of file": ("film.avi", "to end in .mp4, got"),
    "no kind of file": ("film", "to end in .mp4, got"),
    "missing folder": ("nope/film.mp4", "Make it first."),
    "folder that is a file": ("notes.txt/film.mp4", "Make it first."),
    "folder": ("folder.mp4", "Expected the name of a film, got the folder"),
    "the source": ("clip.mp4", "Expected another file than the source"),
    "the source by another way": ("bare/../clip.mp4", "Expected another file than the source"),
    "link to the source": ("link.mp4", "Expected another file than the source"),
}


def cut(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name in ("notes.txt", "notes.nfo", "notes.mp4", "notes.png"):
        (folder / name).write_text("no video " * 100)
    (folder / "empty.mp4").touch()
    for name in ("bare", "folder.mp4"):
        (folder / name).mkdir()
    write_clip(folder / "clip.mp4")
    (folder / "link.mp4").symlink_to("clip.mp4")
    cut(encode(folder / "cut.mp4", movflags="+faststart"))
    cut(encode(folder / "lost.mp4"))
    encode(folder / "head.mp4", count=0)
    parts = [encode(folder / f"{size[0]}.h264", size, LATE).read_bytes() for size in ((64, 48), (32, 48))]
    (folder / "resized.h264").write_bytes(b"".join(parts))
    with wave.open(str(folder / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    return folder


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, hidden files too."""
    found = [Path(here) / name for here, folders, files in os.walk(folder) for name in folders + files]
    return {str(path): path.read_bytes() if path.is_file() else None for path in found}


def complaint(streams: Any) -> str:
    """The one line of an error, beside which there may be a bar and the pictures that were left out."""
    said, complained = streams
    assert said == ""
    lines = [line.rsplit("\r", 1)[-1] for line in complained.splitlines(keepends=False) if line.strip()]
    lines = [line for line in lines if not line.startswith(("filming", "Left out: Expected "))]
    assert len(lines) == 1, complained
    assert lines[0].startswith("ebjr-det: ")
    return lines[0]


@pytest.mark.parametrize(("source", "options", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_an_earlier_film_stays(
    source, options, says, command, sources, tmp_path, capfd
):
    out = tmp_path / "film.mp4"
    out.write_bytes(b"an earlier film")
    there = source if not source or source.startswith(("camera:", "/dev/", "rtsp:")) else sources / source
    kept = content(sources)
    assert command("demo", DIGITS, there, "--out", out, *options) == 2
    assert says in complaint(capfd.readouterr())
    assert content(tmp_path) == {str(out): b"an earlier film"}
    assert content(sources) == kept


def test_a_film_that_breaks_off_leaves_nothing(command, sources, tmp_path, capfd):
    assert command("demo", DIGITS, sources / "cut.mp4", "--out", tmp_path / "film.mp4", NONE) == 2
    assert BREAKS_OFF in complaint(capfd.readouterr())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("out", "says"), PLACES.values(), ids=PLACES)
def test_a_place_for_no_film_is_refused_and_nothing_changes(out, says, command, sources, capfd):
    kept = content(sources)
    place = f"{sources}/{out}"
    assert command("demo", DIGITS, sources / "clip.mp4", "--out", place, NONE) == 2
    assert says in complaint(capfd.readouterr())
    assert content(sources) == kept


def test_a_film_needs_a_name(command, sources, capfd):
    assert command("demo", DIGITS, sources / "clip.mp4", NONE) == 2
    assert "--out" in complaint(capfd.readouterr())
