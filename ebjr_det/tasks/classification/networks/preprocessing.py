"""From a picture to a network's input: the project's own transform in PIL and numpy, and a place for a
library's own.

Where a library's evaluation transform does no more than the project's own can, `described` tells it as plain
numbers. Nothing here needs torch until a tensor is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput, check_known
from ebjr_det.core.types import Array

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

CIFAR_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
INTERPOLATIONS = {
    # torchvision's name -> PIL's
    "nearest": "NEAREST",
    "nearest-exact": "NEAREST",
    "bilinear": "BILINEAR",
    "bicubic": "BICUBIC",
    "box": "BOX",
    "hamming": "HAMMING",
    "lanczos": "LANCZOS",
}

Picture: TypeAlias = "Image.Image | NDArray[np.uint8]"
Transform: TypeAlias = "Callable[[Picture], Tensor]"
Side: TypeAlias = int | tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """From an image (PIL, or uint8 [height, width, 3]) to a normalised float32 array [3, h, w].

    Attributes:
        mean, std: of the channels, for values scaled to [0, 1].
        resize: length of the shorter side after resizing, or height and width, or None to keep the size.
        crop: side of the central square that is cut out, or height and width, or None. Where the image is
            smaller, black surrounds it.
        interpolation: of the resizing, for example `bilinear` or `bicubic`.

    Raises:
        ConfigError: an unknown interpolation, a side that is no whole number from 1, or a `std` of 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Side | None = None
    crop: Side | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_known(self.interpolation, INTERPOLATIONS, "a known `interpolation`")
        for name in ("resize", "crop"):
            object.__setattr__(self, name, _side(name, getattr(self, name)))
        if isinstance(self.crop, tuple) and self.crop[0] == self.crop[1]:
            object.__setattr__(self, "crop", self.crop[0])
        for name in ("mean", "std"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))
        if 0 in self.std:
            raise ConfigError(f"Expected `std` above 0, got {list(self.std)}.")

    def __call__(self, image: Picture) -> NDArray[np.float32]:
        """One image: resized and cropped if asked for, scaled to [0, 1], less the mean, over the deviation.

        To the bit what torchvision's Resize, CenterCrop, ToTensor and Normalize make of it; like there, an
        array of floats is taken as scaled already.

        Raises:
            InvalidInput: an image that is neither of uint8 nor of floats.
        """
        if self.resize is not None:
            image = self._resized(to_pil(image))
        if self.crop is not None:
            image = _centre(to_pil(image), *_pair(self.crop))
        planes = _planes(image)
        mean, std = (np.array(row, dtype=planes.dtype).reshape(-1, 1, 1) for row in (self.mean, self.std))
        if planes.shape[0] == len(mean):  # in place; a grey image takes on the channels of the mean
            planes -= mean
            planes /= std
            return planes
        return np.asarray((planes - mean) / std)

    def build(self) -> Transform:
        """This preprocessing as a transform that gives a torch tensor."""
        return AsTensor(self)

    def _resized(self, image: "Image.Image") -> "Image.Image":
        """The image in its new size, by PIL."""
        from PIL import Image

        width, height = image.size
        if isinstance(self.resize, int):
            short, long = self.resize, int(self.resize * max(image.size) / min(image.size))
            size = (short, long) if width <= height else (long, short)
        else:
            height, width = _pair(self.resize)
            size = (width, height)
        if size == image.size:
            return image
        return image.resize(size, Image.Resampling[INTERPOLATIONS[self.interpolation]])


@dataclass(frozen=True)
class AsTensor:
    """A preprocessing whose arrays come as torch tensors."""

    preprocessing: Preprocessing

    def __call__(self, image: Picture) -> "Tensor":
        """One image as a float tensor [3, h, w]."""
        import torch

        return torch.from_numpy(self.preprocessing(image))


class OnPil:
    """A library's own transform, which wants PIL images, on whatever a data set gives."""

    def __init__(self, transform: Callable[["Image.Image"], object]) -> None:
        self.transform = transform

    def __call__(self, image: Picture) -> "Tensor":
        """The transform of one image."""
        import torch

        return torch.as_tensor(self.transform(to_pil(image)))


def to_pil(image: Picture) -> "Image.Image":
    """A PIL image; a uint8 array [height, width, 3] is wrapped."""
    from PIL import Image

    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def parse_preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    """From a configuration's mapping. Raises ConfigError for unknown fields, or without mean and std."""
    valid = Preprocessing.__dataclass_fields__
    for field in fields:
        check_known(field, valid, "a field of `preprocessing`")
    if "mean" not in fields or "std" not in fields:
        raise ConfigError("Expected `preprocessing` with `mean` and `std`, got only " + ", ".join(fields))
    return Preprocessing(**fields)


def described(transform: Any) -> Preprocessing | None:
    """A transform as numbers, or None where `Preprocessing` cannot do the same.

    Known are those that `build` and `OnPil` make, timm's evaluation transform (a Compose of Resize and
    CenterCrop, either of which may be missing, ToTensor and Normalize) and torchvision's preset.
    """
    if isinstance(transform, Preprocessing):
        return transform
    if isinstance(transform, AsTensor):
        return transform.preprocessing
    if isinstance(transform, OnPil):
        return described(transform.transform)
    from torchvision.transforms import Compose, v2
    from torchvision.transforms._presets import ImageClassification

    try:
        if type(transform) is ImageClassification:
            return _numbers(
                transform,
                resize=transform.resize_size,
                interpolation=transform.interpolation.value,
                crop=transform.crop_size,
            )
        if type(transform) in (Compose, v2.Compose):
            return _of_steps(list(transform.transforms))
    except ConfigError:  # a number that `Preprocessing` refuses
        return None
    return None


def _of_steps(steps: list[Any]) -> Preprocessing | None:
    """The steps of a Compose as numbers, or None."""
    from timm.data.transforms import MaybeToTensor
    from torchvision.transforms import CenterCrop, Normalize, Resize, ToTensor, v2

    fields: dict[str, object] = {}
    if steps and type(steps[0]) in (Resize, v2.Resize) and steps[0].max_size is None:
        first = steps.pop(0)
        fields |= {"resize": first.size, "interpolation": getattr(first.interpolation, "value", None)}
    if steps and type(steps[0]) in (CenterCrop, v2.CenterCrop):
        fields["crop"] = steps.pop(0).size
    kinds = [type(step) for step in steps]
    if (
        len(kinds) != 2
        or kinds[0] not in (ToTensor, MaybeToTensor)
        or kinds[1] not in (Normalize, v2.Normalize)
    ):
        return None
    return _numbers(steps[1], **fields)


def _numbers(normalize: Any, **fields: Any) -> Preprocessing:
    """With the mean and the deviation of a step: float32 numbers, written as short as they can be."""
    mean, std = (tuple(float(str(np.float32(v))) for v in row) for row in (normalize.mean, normalize.std))
    return Preprocessing(mean, std, **fields)


def _side(name: str, value: object) -> Side | None:
    """A side, or height and width, as whole numbers; a list of one is one number, as for torchvision."""
    if value is None:
        return None
    sides = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not 1 <= len(sides) <= 2 or any(type(side) is not int or side < 1 for side in sides):
        raise ConfigError(f"Expected `{name}` to be a whole number from 1, or two of them, got {value!r}.")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _pair(side: Side | None) -> tuple[int, int]:
    """Height and width."""
    assert side is not None
    return (side, side) if isinstance(side, int) else side


def _centre(image: "Image.Image", height: int, width: int) -> "Image.Image":
    """The middle of a PIL image; what lies outside of it is black."""
    left, top = (
        -((side - length) // 2) if side > length else round((length - side) / 2)
        for side, length in ((width, image.width), (height, image.height))
    )
    return image.crop((left, top, left + width, top + height))


def _planes(image: Picture) -> Array:
    """[channels, height, width] new floats: bytes over 255, floats as they are."""
    pixels = np.asarray(image)
    if getattr(image, "mode", "") == "1":
        pixels = pixels * np.uint8(255)
    if pixels.ndim not in (2, 3) or not (pixels.dtype == np.uint8 or pixels.dtype.kind == "f"):
        raise InvalidInput(
            f"Expected an image of uint8 [height, width, 3], got {pixels.dtype} {list(pixels.shape)}."
        )
    planes = np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), 2, 0)
    if planes.dtype != np.uint8:
        return np.array(planes, order="C")
    return np.asarray(np.ascontiguousarray(planes) / np.float32(255))
