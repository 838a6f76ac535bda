"""Videos and cameras decoded frame by frame, and H.264 files written; the only room that knows PyAV.

Convention: a frame is a PIL picture in RGB, turned as its camera says; frames count from 1 in messages.
Knows nothing about what is in them.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec import codecs_available
from av.container import InputContainer
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from ebjr_det.errors import InvalidInput, first_line
from ebjr_det.files import atomic_write, existing_file

FASTEST = 1000
"""Frames a second beyond which a rate is none: some files state the tick of their clock."""
CAMERAS = {  # platform: (format, address of camera number or name {}, options)
    "linux": ("v4l2", "/dev/video{}", {}),
    "darwin": ("avfoundation", "{}:none", {"framerate": "30"}),
    "win32": ("dshow", "video={}", {}),
}
ENCODERS: dict[
    str, dict[str, str]
] = {  # the first one that is here; all but H.264's own encoder are a way out
    "libx264": {"crf": "18", "preset": "fast"},
    "libopenh264": {"b": "12M"},
    "mpeg4": {"b": "12M"},
}
TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    -180: Image.Transpose.ROTATE_180,
    -90: Image.Transpose.ROTATE_270,
}
LETTERS = {"ansi", "bintext", "idf", "xbin"}
"""Codecs that draw a text file's letters, whatever it says."""
TELL_THEIR_LENGTH = {"mov", "matroska", "avi"}
BT709 = 1


@dataclass(frozen=True)
class Footage:
    """Pictures one after the other.

    Attributes:
        frames: each with the second that it was taken at where that is not its turn over `fps`, else None.
        fps: frames a second, None where nobody knows.
        count: how many are to be expected, None where nobody knows.
        live: from a camera, which has no end of its own.
    """

    frames: Iterator[tuple[float | None, Image.Image]]
    fps: Fraction | None
    count: int | None = None
    live: bool = False


@contextmanager
def open_video(path: Path) -> Iterator[Footage]:
    """The frames of a video file.

    Raises:
        InvalidInput: at once where it is no video; while reading, with the number of the frame, where it
            cannot be decoded, breaks off, or changes its size, and where it has no frame.
    """
    existing_file(path, "a video")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, ValueError) as error:
        raise InvalidInput(
            f"Expected a video at `{path}`, got: {first_line(error)} (no video, or one that was cut)."
        ) from error
    with container:
        stream = _pictures_of(container, path)
        fps = _rate(stream)
        length = _stated_end(container, stream)
        count = stream.frames or (round(length * fps) if length and fps else None)
        yield Footage(_frames_of(container, stream, path), fps, count)


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


def _pictures_of(container: InputContainer, name: object) -> Any:
    """The first stream of pictures, no cover of music and no text; one without a decoder would crash."""
    for stream in container.streams.video:
        known = stream.codec_context is not None and stream.codec_context.name not in LETTERS
        if known and not stream.disposition & Disposition.attached_pic:
            return stream
    raise InvalidInput(f"Expected a video, got `{name}`, in which there are no frames to decode.")


def _rate(stream: Any) -> Fraction | None:
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate).limit_denominator(1001) if rate and 0 < rate <= FASTEST else None


def _stated_end(container: InputContainer, stream: Any) -> float | None:
    """Seconds from the first frame to the end as the file's head states them, None where it does not."""
    if container.format.name.split(",")[0] not in TELL_THEIR_LENGTH:
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    stated = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if stated is not None:
        hours, minutes, seconds = map(float, stated.groups())
        return 3600 * hours + 60 * minutes + seconds
    alone = len(container.streams.get()) == 1 and container.duration is not None
    return container.duration / av.time_base if alone and container.duration is not None else None


def _frames_of(
    container: InputContainer, stream: Any, name: object, live: bool = False
) -> Iterator[tuple[float | None, Image.Image]]:
    """Every frame of one size, to an end that the file's head does not contradict."""
    count, size, began, ended = 0, (0, 0), None, 0.0
    stated = None if live else _stated_end(container, stream)
    try:
        for packet in container.demux(stream):
            for frame in packet.decode():
                if frame.is_corrupt:
                    if live:
                        continue
                    raise InvalidInput(_broken(name, count, "its data is damaged"))
                picture = _turned(frame)
                size = size if count else picture.size
                if picture.size != size:
                    raise InvalidInput(_resized(name, count, size, picture.size))
                count += 1
                at = None
                if frame.time is not None:
                    began = frame.time if began is None else began
                    at = frame.time - began
                    ended = at + float(frame.duration * (frame.time_base or 0))
                yield (at if live else None), picture
    except av.FFmpegError as error:
        raise InvalidInput(_broken(name, count, first_line(error))) from error
    missing = 0.0 if stated is None else stated - ended
    if missing > 1.5 / (_rate(stream) or FASTEST) and (ended or not count):
        raise InvalidInput(_broken(name, count, f"the last {missing:.2f} of {stated:.2f} s are missing"))
    if not count:
        raise InvalidInput(f"Expected a video, got `{name}`, in which there are no frames to decode.")


def _turned(frame: Any) -> Image.Image:
    picture: Image.Image = frame.to_image()
    turn = TURNS.get(round(frame.rotation))
    return picture if turn is None else picture.transpose(turn)


def _broken(name: object, count: int, reason: str) -> str:
    return (
        f"Expected a whole video, got `{name}`, which breaks off at frame {count + 1}: {reason}. "
        "Get the whole file, or ask for fewer frames."
    )


def _resized(name: object, count: int, before: tuple[int, int], now: tuple[int, int]) -> str:
    return (
        f"Expected all frames of `{name}` to be {before[0]} x {before[1]}, got {now[0]} x {now[1]} at frame "
        f"{count + 1}. Encode it anew at one size."
    )


class VideoWriter:
    """Frames of one size going into a video; `write_video` makes one."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream, self.codec = container, stream, stream.codec_context.name
        self.size, self.last = (stream.width, stream.height), -1

    def add(self, picture: Image.Image, seconds: float | None = None) -> None:
        """The next frame, one turn after the last one or, where that is later, this long after the start."""
        if picture.size != self.size:
            raise InvalidInput(f"Expected a frame of {self.size}, got {picture.size}.")
        base = self.stream.codec_context.time_base
        due = 0 if seconds is None else round(seconds / base)
        self.last = max(self.last + 1, due)
        plain = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = plain.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = self.last, base
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """What the encoder still holds, and the index."""
        self.container.mux(self.stream.encode())
        self.container.close()


@contextmanager
def write_video(path: Path, size: tuple[int, int], fps: Fraction) -> Iterator[VideoWriter]:
    """An mp4 that plays everywhere: H.264 in 4:2:0, colours of BT.709, its index in front.

    It takes its name only when the block ends well.

    Args:
        size: width and height, both even.

    Raises:
        InvalidInput: an odd size, or the system refuses.
    """
    if size[0] % 2 or size[1] % 2:
        raise InvalidInput(f"Expected an even width and height of a video, got {size[0]} x {size[1]}.")
    name = next(encoder for encoder in ENCODERS if encoder in codecs_available)
    with atomic_write(path) as temporary:
        try:
            container = av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart"})
            try:
                stream: Any = container.add_stream(name, rate=fps, options=dict(ENCODERS[name]))
                stream.width, stream.height = size
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.time_base = 1 / fps
                context.colorspace = context.color_primaries = context.color_trc = BT709
                context.color_range = ColorRange.MPEG
                writer = VideoWriter(container, stream)
                yield writer
                writer.finish()
            finally:
                with suppress(av.FFmpegError):
                    container.close()
        except av.FFmpegError as error:
            raise InvalidInput(f"Expected to write `{path}`, got: {first_line(error)}.") from error
