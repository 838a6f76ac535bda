"""From a picture to a network's input: the project's own transform, and a place for a library's own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ebjr_det.errors import ConfigError, did_you_mean

CIFAR_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


Transform = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Preprocessing:
    """From an image (PIL, or uint8 [height, width, 3]) to a normalised float tensor [3, h, w].

    Attributes:
        mean, std: of the channels, for values scaled to [0, 1].
        resize: length of the shorter side after resizing, or None to keep the size.
        crop: side of the central square that is cut out, or None.
        interpolation: of the resizing, for example `bilinear` or `bicubic`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"

    def build(self) -> Transform:
        """The transform: resize and crop if asked for, then torchvision's ToTensor and Normalize."""
        from torchvision.transforms import InterpolationMode, ToTensor, v2

        steps: list[Callable[[Any], Any]] = []
        if self.resize is not None:
            steps.append(v2.Resize(self.resize, InterpolationMode(self.interpolation)))
        if self.crop is not None:
            steps.append(v2.CenterCrop(self.crop))
        first = [to_pil] if steps else []
        transform: Transform = v2.Compose([*first, *steps, ToTensor(), v2.Normalize(self.mean, self.std)])
        return transform


class OnPil:
    """A library's own transform, which wants PIL images, on whatever a data set gives."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, image: Any) -> Tensor:
        """The transform of one image."""
        return torch.as_tensor(self.transform(to_pil(image)))


def to_pil(image: Any) -> Any:
    """A PIL image; a uint8 array [height, width, 3] is wrapped."""
    from PIL import Image

    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def parse_preprocessing(fields: Mapping[str, Any]) -> Preprocessing:
    """From a configuration's mapping. Raises ConfigError for unknown fields, or without mean and std."""
    valid = Preprocessing.__dataclass_fields__
    for field in fields:
        if field not in valid:
            hint = did_you_mean(field, valid)
            raise ConfigError(f"Expected a field of `preprocessing`, got `{field}`. {hint}")
    if "mean" not in fields or "std" not in fields:
        raise ConfigError("Expected `preprocessing` with `mean` and `std`, got only " + ", ".join(fields))
    return Preprocessing(**fields)
