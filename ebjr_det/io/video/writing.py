"""H.264 films written frame by frame, every frame at its time."""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec import codecs_available
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.io.files import atomic_write

ENCODERS: dict[str, dict[str, str]] = {  # the first one that is here; all but H.264's own are a way out
    "libx264": {"crf": "18", "preset": "fast", "bf": "0"},  # frames in the order in which they are seen
    "libopenh264": {"b": "12M"},
    "mpeg4": {"b": "12M"},
}
BT709 = 1
MOST_TICKS = 65535
"""Of a film's clock in a second, as MPEG-4 has it; an mp4 holds a frame for 2^31 of them, nine hours."""
LONGEST = 8 * 3600
"""Seconds for which a frame may be seen."""


class VideoWriter:
    """Frames of one size going into a video; `write_video` makes one.

    Attributes:
        frames: how many there are so far.
        seconds: the film's length so far.
    """

    def __init__(self, container: OutputContainer, stream: VideoStream, fps: Fraction) -> None:
        self.container, self.stream, self.fps = container, stream, fps
        self.size, self.frames, self.last, self.seconds = (stream.width, stream.height), 0, -1, 0.0

    def add(self, picture: Image.Image, start: Fraction | None = None, end: Fraction | None = None) -> None:
        """The next frame, seen from one second to another.

        Args:
            start: by default its turn. One that is not later than the last frame's comes a tick after it.
            end: counts for the film's last frame alone, and is one turn later by default; all others are
                seen until the next one.

        Raises:
            InvalidInput: another size, or hours after the last frame.
        """
        if picture.size != self.size:
            raise InvalidInput(f"Expected a frame of {self.size}, got {picture.size}.")
        base = self.stream.codec_context.time_base
        begins = self.frames / self.fps if start is None else start
        ends = begins + 1 / self.fps if end is None else end
        if max(begins - self.last * base, ends - begins) > LONGEST:
            raise InvalidInput(
                f"Expected frame {self.frames + 1} to come, and to be seen, within {LONGEST // 3600} hours "
                f"of the one before, got second {float(begins):.0f} to {float(ends):.0f}. Give --fps."
            )
        self.last = max(self.last + 1, round(begins / base))
        plain = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame = plain.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        frame.pts, frame.time_base = self.last, base
        frame.duration = max(1, round(ends / base) - self.last)
        self.container.mux(self.stream.encode(frame))
        self.frames, self.seconds = self.frames + 1, float((self.last + frame.duration) * base)

    def finish(self) -> None:
        """Write what the encoder still holds, and the index."""
        self.container.mux(self.stream.encode())
        self.container.close()


@contextmanager
def write_video(path: Path, size: tuple[int, int], fps: Fraction) -> Iterator[VideoWriter]:
    """An mp4 that plays everywhere: H.264 in 4:2:0, colours of BT.709, its index in front.

    It takes its name only when the block ends well.

    Args:
        size: width and height, both even.
        fps: frames a second where their times are not given.

    Raises:
        InvalidInput: an odd size, or the system refuses.
    """
    if size[0] % 2 or size[1] % 2:
        raise InvalidInput(f"Expected an even width and height of a video, got {size[0]} x {size[1]}.")
    name = next(encoder for encoder in ENCODERS if encoder in codecs_available)
    with atomic_write(path) as temporary:
        try:
            container = av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "+faststart"})
            try:
                stream = container.add_stream(name, rate=fps, options=dict(ENCODERS[name]))
                assert isinstance(stream, VideoStream)  # as the encoder is one of pictures
                stream.width, stream.height = size
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.time_base = Fraction(1, _ticks(fps))
                context.flags |= Flags.frame_duration
                context.colorspace = context.color_primaries = context.color_trc = BT709
                context.color_range = ColorRange.MPEG
                writer = VideoWriter(container, stream, fps)
                yield writer
                writer.finish()
            finally:
                with suppress(av.FFmpegError):
                    container.close()
        except av.FFmpegError as error:
            raise InvalidInput(f"Expected to write `{path}`, got: {first_line(error)}.") from error


def _ticks(fps: Fraction) -> int:
    """Ticks a second in which a turn is a whole number, and a millisecond too where that is possible.

    >>> _ticks(Fraction(30000, 1001)), _ticks(Fraction(24000, 1001)), _ticks(Fraction(25))
    (60000, 48000, 65000)
    """
    exact = (math.lcm(fps.numerator, 1000), fps.numerator, 1000)
    least = next(ticks for ticks in exact if ticks <= MOST_TICKS)
    return least * (MOST_TICKS // least)
