"""Pictures from bytes and pixels, with a limit on how large one becomes."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Opaque
from ebjr_det.io.encoded import PictureBytes
from ebjr_det.io.pictures import as_picture, open_picture, stored_size
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.protocol import Source

if TYPE_CHECKING:
    from PIL.Image import Image

REQUESTS = 8
"""Largest requests whose decoded pictures are held at a time."""


def pixels_of(source: Source) -> int:
    """The pixels of a picture by its header alone; 0 where that cannot be read."""
    if isinstance(source, np.ndarray):
        return int(source.shape[0] * source.shape[1])
    width, height = stored_size(PictureBytes(source))
    return width * height


def open_source(source: Source) -> "Image":
    """A picture as `predict` would open it from a file. Raises InvalidInput where it cannot be decoded."""
    if isinstance(source, np.ndarray):
        return as_picture(source)
    return open_picture(PictureBytes(source))


class Room:
    """Room for the decoded pictures of so many requests of the largest size.

    Args:
        largest: pixels of a request at most.
    """

    def __init__(self, largest: int) -> None:
        self.largest, self.pixels, self.lock = largest, 0, Lock()


class Reading:
    """The pictures of a request as a model takes them, read in the first thread that looks at them.

    Attributes:
        pictures: decoded, once they are read; seconds: that reading took.
    """

    def __init__(self, sources: Sequence[Source], preprocess: Callable[[Opaque], Opaque], room: Room) -> None:
        self.sources, self.preprocess, self.room = sources, preprocess, room
        self.pictures: list[Image] = []
        self.inputs: list[Opaque] = []
        self.held, self.closed, self.seconds = 0, False, 0.0

    @property
    def bytes(self) -> int:
        """Bytes of the pictures as they came."""
        return sum(len(source) if isinstance(source, bytes) else source.nbytes for source in self.sources)

    @cached_property
    def pixels(self) -> int:
        """Pixels of the pictures by their headers."""
        return sum(map(pixels_of, self.sources))

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Opaque]:
        if not self.inputs:
            self.read()
        return iter(self.inputs)

    def read(self) -> None:
        """Decode and preprocess.

        Raises:
            InvalidInput: a picture that cannot be decoded, or too many pixels, before any is decoded.
            Unavailable: where other requests hold too many.
        """
        started = monotonic()
        self._hold(self.pixels)
        self.pictures = [open_source(source) for source in self.sources]
        self.inputs = [self.preprocess(picture) for picture in self.pictures]
        self.seconds = monotonic() - started

    def _hold(self, pixels: int) -> None:
        room = self.room
        if pixels > room.largest:
            raise InvalidInput(
                f"Expected at most {room.largest} pixels in a request, got {pixels}. Send fewer."
            )
        with room.lock:
            if self.held or self.closed:  # a second try; or one that nobody waits for any more
                return
            if room.pixels and room.pixels + pixels > REQUESTS * room.largest:
                raise Unavailable("busy", 1.0)
            room.pixels += pixels
            self.held = pixels

    def close(self) -> None:
        """Give the room back, whether or not the pictures have been read."""
        with self.room.lock:
            self.room.pixels -= self.held
            self.held, self.closed = 0, True
