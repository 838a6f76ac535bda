"""Videos and cameras decoded frame by frame, every frame with its time."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from PIL import Image

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.io.files import existing_file
from ebjr_det.io.video.clock import Clock
from ebjr_det.io.video.display import Display

FASTEST = 1000
"""Frames a second beyond which a rate is none: some files state the tick of their clock."""
CAMERAS = {  # platform: (format, address of camera number or name {}, options)
    "linux": ("v4l2", "/dev/video{}", {}),
    "darwin": ("avfoundation", "{}:none", {"framerate": "30"}),
    "win32": ("dshow", "video={}", {}),
}
LETTERS = {"ansi", "bintext", "idf", "xbin"}
"""Codecs that draw a text file's letters, whatever it says."""
TELL_THEIR_LENGTH = {"mov", "matroska", "avi"}
GUESSED_RATE = 25


class Shot(NamedTuple):
    """A frame and the seconds from the source's start between which it is seen; no end is one not known."""

    start: Fraction
    end: Fraction | None
    picture: Image.Image


@dataclass(frozen=True)
class Footage:
    """Pictures one after the other.

    Attributes:
        frames: in the order in which they are seen.
        fps: frames a second, None where nobody knows; the average where the turns vary.
        count: how many are to be expected, None where nobody knows.
        live: from a camera, which has no end of its own.
        steady: every frame is seen for one turn, as far as the file states it.
    """

    frames: Iterator[Shot]
    fps: Fraction | None
    count: int | None = None
    live: bool = False
    steady: bool = False


@contextmanager
def open_video(path: Path) -> Iterator[Footage]:
    """The frames of a video file.

    Raises:
        InvalidInput: at once where it is no video; while reading, with the number of the frame, where it
            cannot be decoded, breaks off, or changes its size, and where it has no frame.
    """
    existing_file(path, "a video")
    try:
        container = av.open(f"file:{path}")  # so that no part of the name is read as a protocol
    except (av.FFmpegError, ValueError) as error:
        raise InvalidInput(
            f"Expected a video at `{path}`, got: {first_line(error)} (no video, or one that was cut)."
        ) from error
    with container:
        stream = _pictures_of(container, path)
        count = stream.frames if _kind(container) == "mov" and stream.frames else None
        steady = count is not None and stream.average_rate == stream.base_rate
        yield Footage(_with_ends(_frames_of(container, stream, path)), _rate(stream), count, steady=steady)


def is_camera(name: str) -> bool:
    """Whether a name means a camera: `camera:0`, `camera:NAME`, `/dev/video0`."""
    return name.startswith("camera:") or re.fullmatch(r"/dev/video\d+", name) is not None


@contextmanager
def open_camera(name: str) -> Iterator[Footage]:
    """What a camera sees from now on; damaged pictures are left out, as cameras begin with some.

    Raises:
        InvalidInput: there is no such camera, or it changes its size.
    """
    kind, address, options = CAMERAS.get(sys.platform, CAMERAS["linux"])
    device = name.removeprefix("camera:")
    try:
        container = av.open(
            device if device.startswith("/") else address.format(device), format=kind, options=dict(options)
        )
    except (av.FFmpegError, ValueError) as error:
        raise InvalidInput(f"Expected a camera at `{name}`, got: {first_line(error)}.") from error
    with container:
        stream = _pictures_of(container, name)
        yield Footage(_frames_of(container, stream, name, live=True), _rate(stream), live=True)


def _pictures_of(container: InputContainer, name: object) -> VideoStream:
    """The first stream of pictures that players show unasked, no cover of music and no text."""
    streams = [
        stream
        for stream in container.streams.video  # one without a decoder would crash
        if stream.codec_context is not None
        and stream.codec_context.name not in LETTERS
        and not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        raise InvalidInput(f"Expected a video, got `{name}`, in which there are no frames to decode.")
    return max(streams, key=lambda stream: bool(stream.disposition & Disposition.default))


def _rate(stream: VideoStream) -> Fraction | None:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate).limit_denominator(1001) if rate and 0 < rate <= FASTEST else None


def _kind(container: InputContainer) -> str:
    return container.format.name.split(",")[0]


def _stated_end(container: InputContainer, stream: Any) -> Fraction | None:
    """When the last frame ends on the file's clock as its head states it, None where it does not."""
    if _kind(container) not in TELL_THEIR_LENGTH:
        return None
    if stream.duration is not None:
        return Fraction(((stream.start_time or 0) + stream.duration) * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if stated is not None:
        hours, minutes, seconds = map(Fraction, stated.groups())
        return 3600 * hours + 60 * minutes + seconds
    if len(container.streams.get()) == 1 and container.duration is not None:
        return Fraction((container.start_time or 0) + container.duration, av.time_base)
    return None


def _start(container: InputContainer) -> Fraction | None:
    """The start of all that a file holds, on its clock; None where that is unknown."""
    if container.start_time is None or _kind(container) == "avi":  # which states no times of being seen
        return None
    return Fraction(max(0, container.start_time), av.time_base)  # before 0 lies what players leave out


def _frames_of(container: InputContainer, stream: Any, name: object, live: bool = False) -> Iterator[Shot]:
    """Every frame of one size, to an end that the file's head does not contradict.

    A frame's `end` is what it is where no other frame comes: the head's, or by the frame's own duration.
    """
    count, size = 0, (0, 0)
    ended: Fraction | None = None
    turn = 1 / (_rate(stream) or Fraction(GUESSED_RATE))
    clock = Clock(None if live else _start(container), turn)
    stated = None if live else _stated_end(container, stream)
    display = Display(stream.sample_aspect_ratio, name)
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                if frame.is_corrupt:
                    if live:  # as cameras begin
                        continue
                    raise InvalidInput(_broken(name, count, "its data is damaged"))
                picture = display.show(frame)
                size = size if count else picture.size
                if picture.size != size:
                    raise InvalidInput(_resized(name, count, size, picture.size))
                count += 1
                ticks = frame.dts if _kind(container) == "avi" else frame.pts  # of which AVI states none
                time = None if ticks is None else Fraction(ticks * frame.time_base)
                start, end = clock.seen(time), None
                if time is not None:
                    ended = time + frame.duration * frame.time_base
                    # a head that ends before this frame is wrong; then the frame's own duration counts
                    last = ended if stated is None or stated <= time else stated
                    end = start + (last - time) if last > time else None
                yield Shot(start, end, picture)
    except av.FFmpegError as error:
        raise InvalidInput(_broken(name, count, first_line(error))) from error
    # a file that was cut decodes without an error; only its head knows of the rest
    missing = 0.0 if stated is None else float(stated - (ended or 0))
    if missing > 1.5 * turn and (ended or not count):
        raise InvalidInput(_broken(name, count, f"its last {missing:.2f} s are missing"))
    if not count:
        raise InvalidInput(f"Expected a video, got `{name}`, in which there are no frames to decode.")


def _with_ends(shots: Iterator[Shot]) -> Iterator[Shot]:
    """Each frame is seen until the next one; only the last one's own end counts."""
    last = None
    try:
        for shot in shots:
            if last is not None:
                yield last._replace(end=shot.start)
            last = shot
    except InvalidInput:
        if last is not None:  # whole itself, and enough for who asked for no more
            yield last._replace(end=None)
        raise
    if last is not None:
        yield last


def _broken(name: object, count: int, reason: str) -> str:
    return (
        f"Expected a whole video, got `{name}`, which breaks off at frame {count + 1}: {reason}. "
        "Get the whole file, or ask for fewer frames."
    )


def _resized(name: object, count: int, size: tuple[int, int], resized: tuple[int, int]) -> str:
    sizes = ", got ".join(f"{width} x {height}" for width, height in (size, resized))
    return f"Expected all frames of `{name}` to be {sizes} at frame {count + 1}. Encode it anew at one size."
