"""What is filmed, by its name: a video, pictures or a camera; and whether a film may go where it shall."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.files import writable_folder
from ebjr_det.io.notes import say
from ebjr_det.io.picture_folders import find_pictures
from ebjr_det.io.pictures import count_frames, frames_of, open_picture, picture_suffixes

if TYPE_CHECKING:
    from PIL import Image

    from ebjr_det.io.video.reading import Footage, Shot

PICTURES_FPS = Fraction(10)
INSTANT = 10
"""Milliseconds up to which a frame's time is none, as browsers take it: they show it for a turn."""


@dataclass(frozen=True)
class Source:
    """A video (one file), pictures (several, or one), or a camera (none), to be opened as often as needed.

    Attributes:
        moves: the number of frames of a picture that moves.
    """

    name: str
    files: tuple[Path, ...] = ()
    video: bool = False
    moves: int = 0
    left_out: set[Path] = field(default_factory=set)

    @classmethod
    def of(cls, name: str) -> "Source":
        """The source that a name means. Raises InvalidInput where it means nothing."""
        from ebjr_det.io.video.reading import is_camera

        path = Path(name)
        if is_camera(name):
            return cls(name)
        if name and path.is_file() and (frames := count_frames(path)) > 1:
            return cls(name, (path,), moves=frames)
        if name and path.is_file() and path.suffix.lower() not in picture_suffixes():
            return cls(name, (path,), video=True)
        if "://" in name:
            raise InvalidInput(
                f"Expected a video, pictures or a camera on this machine, got the address `{name}`. Save "
                "what is there as a file first."
            )
        if not (path.exists() or any(sign in name for sign in "*?[")):
            raise InvalidInput(
                f"Expected a video, a folder or pattern of pictures, or a camera such as `camera:0`, got "
                f"`{name}`, which is not there."
            )
        return cls(name, tuple(sorted(find_pictures([name]), key=_in_sequence)))

    @contextmanager
    def open(self, fps: Fraction = PICTURES_FPS) -> Iterator["Footage"]:
        """The source's frames from the start; of pictures `fps` a second."""
        from ebjr_det.io.video.reading import Footage, open_camera, open_video

        if not self.files:
            with open_camera(self.name) as footage:
                yield footage
        elif self.video:
            with open_video(self.files[0]) as footage:
                yield footage
        elif self.moves:
            yield Footage(_shots_in(self.files[0], fps), fps, self.moves)
        else:
            yield Footage(self._pictures(fps), fps, len(self.files), steady=True)

    def look(self, fps: Fraction = PICTURES_FPS) -> tuple["Image.Image", "Footage"]:
        """The first frame, and what is known of them all: the frame rate, and how many there are."""
        with self.open(fps) as footage:
            return next(footage.frames).picture, footage

    def first(self, count: int) -> Iterator["Image.Image"]:
        """The frames from the start, at most `count`; of a camera none, which gives each but once."""
        if self.files:
            with self.open() as footage:
                yield from (shot.picture for shot in islice(footage.frames, count))

    def _pictures(self, fps: Fraction) -> Iterator["Shot"]:
        from ebjr_det.io.video.reading import Shot

        count = 0
        for path in self.files:
            try:
                picture = open_picture(path)
            except InvalidInput as error:
                if path not in self.left_out:
                    self.left_out.add(path)
                    say(f"Left out: {error}")
                continue
            yield Shot(count / fps, (count + 1) / fps, picture)
            count += 1
        if len(self.left_out) == len(self.files):
            raise InvalidInput(f"Expected a picture that can be decoded, got none among {len(self.files)}.")


def _shots_in(path: Path, fps: Fraction) -> Iterator["Shot"]:
    """The frames of a picture that moves, each for its own time."""
    from ebjr_det.io.video.reading import Shot

    start = Fraction(0)
    for picture, milliseconds in frames_of(path):
        end = start + (Fraction(milliseconds) / 1000 if milliseconds > INSTANT else 1 / fps)
        yield Shot(start, end, picture)
        start = end


def _in_sequence(path: Path) -> list[tuple[str, int]]:
    """Pictures in the order of the numbers in their names: 2.png before 10.png."""
    parts = re.split(r"(\d+)", str(path))
    return [(word, int(number or 0)) for word, number in zip(parts[::2], [*parts[1::2], "0"], strict=True)]


def place_of(out: Path, source: Source) -> Path:
    """The path to which the film goes. Raises InvalidInput where none can, or the source is there."""
    if out.suffix.lower() != ".mp4":
        raise InvalidInput(f"Expected a film's name to end in .mp4, got `{out}`.")
    if out.is_dir():
        raise InvalidInput(f"Expected the name of a film, got the folder `{out}`.")
    if not out.parent.is_dir():
        raise InvalidInput(f"Expected a folder that is there for `{out}`, got `{out.parent}`. Make it first.")
    writable_folder(out.parent)
    if any(os.path.realpath(path) == os.path.realpath(out) for path in source.files):
        raise InvalidInput(f"Expected another file than the source, got `{out}` for both.")
    return out
