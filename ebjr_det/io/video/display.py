"""A decoded frame as a player shows it: its colours, the shape of its pixels, turned and mirrored."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from av import VideoFrame
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc, VideoReformatter
from PIL import Image

from ebjr_det.core.errors import InvalidInput

UNSTATED = 2
"""Colour space of a frame whose file does not state one."""
HIGH = 720
"""Lines from which players take such a frame to be in the colours of BT.709, below in those of BT.601."""
HIGH_DYNAMIC_RANGE = {ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67}
"""PQ and HLG, which shown as they are would be dull; their white is at 203 cd/m2, what is above is white."""
WIDEST = 10
"""Times that a pixel can be wider than high, or higher; beyond, the file is not to be believed."""
SLANT = 0.02
"""Sine of the angle by which a display matrix may miss a right angle: one degree."""
UPRIGHT = (1, 0, 0, 1)
# Signs of a, b, c, d in (x, y) -> (ax + cy, bx + dy)
ORIENTATIONS: dict[tuple[int, ...], Image.Transpose] = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
}


class Display:
    """Decoded frames of one video as pictures; what turns colours is kept from one frame to the next.

    Args:
        aspect: width over height of the pixels; None or 0 where the file does not state it.
        name: of the video, for messages.
    """

    def __init__(self, aspect: Fraction | None, name: object) -> None:
        self.aspect = aspect if aspect and 1 <= WIDEST * aspect <= WIDEST**2 else Fraction(1)
        self.name, self.reformatter = name, VideoReformatter()

    def show(self, frame: VideoFrame) -> Image.Image:
        """A frame's picture. Raises InvalidInput where it is to be turned by another angle than a quarter."""
        unstated = frame.colorspace == UNSTATED and frame.height >= HIGH
        bright = frame.color_trc in HIGH_DYNAMIC_RANGE
        converted = self.reformatter.reformat(
            frame,
            width=max(1, round(frame.width * self.aspect)),
            format="rgb24",
            src_colorspace=Colorspace.ITU709 if unstated else None,
            dst_color_trc=ColorTrc.BT709 if bright else None,
            dst_color_primaries=ColorPrimaries.BT709 if bright else None,
        )
        picture: Image.Image = converted.to_image()  # type: ignore[no-untyped-call]
        signs = _orientation(frame.side_data, self.name)
        return picture if signs == UPRIGHT else picture.transpose(ORIENTATIONS[signs])


def _orientation(side_data: Iterable[Any], name: object) -> tuple[int, ...]:
    """The directions of a frame's axes on the screen, whatever the matrix scales and shifts by."""
    stated = [data for data in side_data if data.type == Type.DISPLAYMATRIX]
    if not stated:
        return UPRIGHT
    axes = np.frombuffer(bytes(stated[0]), "=i4").reshape(3, 3)[:2, :2].astype(float)
    if not axes.any():  # nothing at all would be seen; players show it as it is
        return UPRIGHT
    signs = np.where(abs(axes) > SLANT * np.linalg.norm(axes, axis=1, keepdims=True), np.sign(axes), 0)
    orientation = tuple(int(sign) for sign in signs.ravel())
    if orientation != UPRIGHT and orientation not in ORIENTATIONS:
        numbers = ", ".join(f"{axis / 65536:.3g}" for axis in axes.ravel())
        raise InvalidInput(
            f"Expected `{name}` to be shown turned by quarters or mirrored, got the display matrix "
            f"({numbers}). Encode it anew, upright."
        )
    return orientation
