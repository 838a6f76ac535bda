"""Pictures on disk: opened as RGB.

Knows nothing about what is in them. Nothing else in this package decodes a user's picture.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from ebjr_det.core.errors import InvalidInput, Unreachable, first_line
from ebjr_det.core.types import Opaque
from ebjr_det.io.passing import is_passing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

File: TypeAlias = Path | BinaryIO
# What Pillow opens, or claims to, and yet is no picture of light: drawings that it gives to other programs,
# films, containers, and measurements whose levels have no black and white.
NO_PICTURES = {
    "EPS", "WMF", "MPEG", "FLI", "BUFR", "GRIB", "HDF5", "IPTC", "FITS", "MCIDAS", "SPIDER",
}  # fmt: skip
SCALED_TO_16_BITS = {"PNG", "PPM"}  # formats whose grey Pillow gives as mode I, in levels to 65535
SIDEWAYS = {5, 6, 7, 8}  # orientations that exchange width and height
WIDTH, HEIGHT, BITS_PER_SAMPLE, PHOTOMETRIC = 256, 257, 258, 262  # tags of TIFF
ORIENTATION = 274  # of TIFF and EXIF
MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # formats of pictures that may move; pages of others are no film


def picture_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are opened, in the order in which they are tried."""
    from PIL import Image

    Image.preinit()  # the common ones first
    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in NO_PICTURES)


def picture_suffixes() -> frozenset[str]:
    """The endings of pictures' names, in lower case: Pillow's of the formats that are opened."""
    from PIL import Image

    formats = {*picture_formats(), "MPO"}  # which opens as a JPEG
    return frozenset(end for end, name in Image.registered_extensions().items() if name in formats)


def open_picture(path: File, size: tuple[int, int] = (0, 0), *, as_stored: bool = False) -> "Image.Image":
    """A picture as RGB in 8 bits, whatever its mode, turned as its camera says.

    Of several frames or pages the first is taken. Alpha and transparency are dropped, not blended with a
    background, and colour profiles are not applied, as torchvision, OpenCV and Pillow's `convert` do it.

    Args:
        size: width and height of the annotated picture, 0 where unknown. Annotation tools show a picture
            turned, so its boxes are taken to be drawn on the turned one, also where both have the same size
            (half turns, mirrors, squares). Only one that has the annotated size as it is stored, and not
            when turned, stays as it is stored: its boxes cannot have been drawn otherwise.
        as_stored: never turn it; of sets that say that their boxes were drawn so.

    Raises:
        InvalidInput: it cannot be decoded, is suspiciously large, has levels without a known black and
            white, or another size than the annotated one either way. Unreachable: it is the machine, not the
            picture, for want of memory or of open files, or a disk that fails.
    """
    from PIL import Image, ImageOps

    try:
        with picture_warnings(), Image.open(_regular(path), formats=picture_formats()) as opened:
            _check_pixels(opened)
            if as_stored:
                opened.getexif().pop(ORIENTATION, None)
            opened.load()  # of a TIFF, Pillow turns it here and forgets its orientation
            sideways = opened.getexif().get(ORIENTATION) in SIDEWAYS
            fits_as_stored = opened.size == size and sideways and size != size[::-1]
            if not (as_stored or fits_as_stored):
                ImageOps.exif_transpose(opened, in_place=True)
            picture = to_rgb(opened)
    except InvalidInput as error:
        raise InvalidInput(f"Expected a readable picture, got `{path}`: {error}") from error
    except Exception as error:  # a damaged picture can raise anything
        kind = Unreachable if is_passing(error) else InvalidInput
        raise kind(f"Expected a readable picture, got `{path}`: {first_line(error)}.") from error
    if all(size) and picture.size != size:
        raise InvalidInput(
            f"Expected `{path}` to have the annotated size {size[0]} x {size[1]}, got {picture.width} x "
            f"{picture.height}."
        )
    return picture


def stored_size(path: File, *, upright: bool = False) -> tuple[int, int]:
    """Width and height of a picture as stored, or `upright`, as people see it, from its header; 0, 0 where
    that cannot be read.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is odd is said when the picture is opened
            with Image.open(_regular(path), formats=picture_formats()) as opened:
                tags = _tags(opened)  # of a TIFF, whose size Pillow turns
                size = tags.get(WIDTH, opened.width), tags.get(HEIGHT, opened.height)
                # not a PNG's own `getexif`, which decodes the picture
                sideways = upright and Image.Image.getexif(opened).get(ORIENTATION) in SIDEWAYS
                return size[::-1] if sideways else size
    except Exception:  # a damaged picture can raise anything
        return 0, 0


def _tags(opened: "Image.Image") -> Mapping[int, Any]:
    """The tags of a TIFF by their numbers."""
    return getattr(opened, "tag_v2", {})


def count_frames(path: Path) -> int:
    """The number of frames of a picture that may move, 0 of anything else.

    Raises:
        InvalidInput: a picture that is damaged behind its first frame.
    """
    from PIL import Image

    try:
        with picture_warnings():
            opened = Image.open(path, formats=MOVING)
    except Exception:  # another kind of file, or one that its own reader will refuse
        return 0
    with opened, _whole(path):
        return int(getattr(opened, "n_frames", 1))


def frames_of(path: Path) -> Iterator[tuple["Image.Image", float]]:
    """The frames of a picture that moves as RGB, turned as it says, and their milliseconds (0: unstated).

    Raises:
        InvalidInput: a damaged picture.
    """
    from PIL import Image, ImageOps, ImageSequence

    with _whole(path), Image.open(path, formats=MOVING) as opened:
        for frame in ImageSequence.Iterator(opened):
            yield to_rgb(ImageOps.exif_transpose(frame)), frame.info.get("duration", 0)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Raises InvalidInput with the picture's name, whatever a damaged one raises."""
    try:
        yield
    except Exception as error:
        raise InvalidInput(f"Expected a whole picture at `{path}`, got: {first_line(error)}.") from error


@contextmanager
def picture_warnings() -> Iterator[None]:
    """Within, what Pillow warns of is an error for too many pixels, and nothing for odd metadata.

    Set it around threads that open pictures, too: they share filters, and each restores what it found.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        yield


def _regular(path: File) -> File:
    """The path itself. Raises InvalidInput for a pipe, which would be waited for without end."""
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise InvalidInput("it is no regular file.")
    return path


def _check_pixels(opened: "Image.Image") -> None:
    """Pillow's own check, which is a warning that other threads may have silenced."""
    from PIL import Image

    limit, pixels = Image.MAX_IMAGE_PIXELS, opened.width * opened.height
    if limit is not None and pixels > limit:
        raise InvalidInput(
            f"Image size ({pixels} pixels) exceeds limit of {limit} pixels, could be decompression bomb DOS "
            "attack."
        )


def to_rgb(opened: "Image.Image") -> "Image.Image":
    """A loaded picture as RGB in 8 bits.

    Of 16 bits the higher 8 are taken: so Pillow reads 16 bits of colour, so do OpenCV and torchvision with
    either, and it inverts both ways in which 8 bits are widened, level * 256 and level * 257. Pillow's own
    `convert` would make white of all from 256 on. Integers of 32 bits and floats do not say what is white (1,
    255, 65535 and the largest are all in use) and are refused: guessed by their values, each picture of a
    set could be taken otherwise.

    Raises:
        InvalidInput: levels without a known white.
    """
    from PIL import Image

    grey16 = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in SCALED_TO_16_BITS)
    if not grey16:
        if opened.mode in ("I", "F"):
            kind = "floats" if opened.mode == "F" else "integers of more than 16 bits or with a sign"
            raise InvalidInput(f"its levels are {kind}, of which none is known as white. Save it in 8 bits.")
        return opened.convert("RGB")
    import numpy as np

    tags = _tags(opened)  # two of which Pillow does not heed at this depth
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    levels = (np.asarray(opened).astype(np.uint16) >> (bits - 8)).astype(np.uint8)
    white_is_zero = tags.get(PHOTOMETRIC) == 0
    return Image.fromarray(255 - levels if white_is_zero else levels).convert("RGB")


def as_picture(source: Opaque) -> "Image.Image":
    """A picture as RGB from a path, PIL image or array uint8 [height, width (, 3 or 4)], or InvalidInput."""
    from PIL import Image, ImageOps

    if isinstance(source, str | os.PathLike):
        return open_picture(Path(source))
    try:
        picture = source if isinstance(source, Image.Image) else Image.fromarray(source)
        return to_rgb(ImageOps.exif_transpose(picture))  # turned as a file is
    except Exception as error:  # Pillow raises whatever an odd array makes it raise
        reason = first_line(error)
        raise InvalidInput(
            f"Expected a path, PIL image or uint8 array of a picture, got: {reason}."
        ) from error


def small_copy(image: Opaque, size: int) -> "NDArray[np.uint8]":
    """A square copy of a picture, [3, size, size], whatever its proportions."""
    import numpy as np
    from PIL import Image

    small = as_picture(image).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small).transpose(2, 0, 1)
