"""A router in front of the student: a tiny network that looks at a small copy of the picture.

It predicts what the teacher's answer adds before any model has answered, so that a picture which goes to the
teacher costs no pass of the student (budget-adaptive routing, arXiv 2606.30919). Its file is that of any
fitted router: numbers and a header, nothing that could run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.core.ranking import correlation
from ebjr_det.core.types import Array, FloatArray, Logits, Opaque, Output
from ebjr_det.io.pictures import small_copy
from ebjr_det.training.loop import Learner
from ebjr_det.training.order import Order

if TYPE_CHECKING:
    from ebjr_det.routing.file import RouterFile

LARGEST = 1024
MEAN, SPREAD = 0.45, 0.25
"""Of the levels of a picture in [0, 1], by which a network's input is brought to order 1."""
CLIPPED = 4.0
"""Standard deviations from the mean to which rewards are cut, of which a few would outweigh all others."""
UNCOUNTED = "num_batches_tracked"

Small = NDArray[np.uint8]


class FrontRouter:
    """`types.Model` whose answer to a picture is one number, the predicted gain; nothing is predicted.

    Attributes:
        network: batch [n, 3, size, size] -> [n, 1] the gain in standard deviations of the gains of its fit.
        size: side of the small copy in pixels.
    """

    name = "front router"

    def __init__(self, network: nn.Module, size: int, device: str = "cpu") -> None:
        self.network, self.size, self.device = network.eval().to(device), size, device

    @classmethod
    def of_file(cls, file: "RouterFile", path: Path, device: str = "cpu") -> "FrontRouter":
        """The router that a file holds. Raises InvalidInput for numbers that are no such network's."""
        arch, size = file.header.settings.get("arch"), file.header.settings.get("size")
        try:
            network = build_network(str(arch), _checked_size(size))
            state = {name: torch.from_numpy(values.copy()) for name, values in file.arrays.items()}
            missing, unknown = network.load_state_dict(state, strict=False)
            lacking = [name for name in missing if not name.endswith(UNCOUNTED)]
            if lacking or unknown:
                raise ValueError(f"`{[*lacking, *unknown][0]}` in one of them only")
        except (ConfigError, RuntimeError, ValueError) as error:
            raise InvalidInput(
                f"Expected the weights of a front router's network in `{path}`, got: {first_line(error)}. "
                "Fit it again."
            ) from error
        return cls(network, _checked_size(size), device)

    def preprocess(self, image: Opaque) -> Small:
        """A picture -> its small copy, [3, size, size], whatever its proportions."""
        return small_copy(image, self.size)

    def __call__(self, inputs: Sequence[Small]) -> Output:
        """Small copies -> the predicted gain of each as its one logit."""
        with torch.inference_mode():
            gains = self.network(normalised(torch.from_numpy(np.stack(inputs)).to(self.device)))
        return Output([None] * len(inputs), Logits.one_row(gains.float().cpu().numpy()))

    def scores(self, inputs: Sequence[Small], batch_size: int = 256) -> FloatArray:
        """[n] the deferral scores of small copies, in batches."""
        starts = range(0, len(inputs), batch_size)
        return np.concatenate([front_scores(self(inputs[at : at + batch_size])) for at in starts])

    def to_arrays(self) -> dict[str, Array]:
        """The network's weights by name."""
        state = self.network.state_dict().items()
        return {name: values.cpu().numpy() for name, values in state if not name.endswith(UNCOUNTED)}


def front_scores(output: Output) -> FloatArray:
    """[n] deferral scores of a front router's answers."""
    return output.logits.values[:, 0, 0].astype(np.float64)


def build_network(arch: str, size: int, seed: int = 0) -> nn.Module:
    """A network of timm with fresh weights and one output. Raises ConfigError for one that cannot be."""
    import timm

    _checked_size(size)
    if not timm.is_model(arch):
        raise ConfigError(
            f"Expected a network of timm, got `{arch}`. {did_you_mean(arch, timm.list_models())}"
        )
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model(arch, num_classes=1)
    try:
        with torch.inference_mode():
            answers = network.eval()(torch.zeros(1, 3, size, size))
        fits = answers.shape == (1, 1)
    except (RuntimeError, AssertionError, AttributeError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(f"Expected a network for pictures of {size} pixels, got `{arch}`. Choose another.")
    return network


def _checked_size(size: object) -> int:
    if type(size) is not int or not 8 <= size <= LARGEST:
        raise ConfigError(f"Expected a size of 8 to {LARGEST} pixels, got {size}.")
    return size


def normalised(small: Tensor) -> Tensor:
    """Small copies uint8 [n, 3, size, size] as a network takes them."""
    return (small.float() / 255 - MEAN) / SPREAD


class OfLevels(nn.Module):
    """A front router's network on small copies as they are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, small: Tensor) -> tuple[Tensor]:
        """Small copies uint8 [n, 3, size, size] -> the gains, [n, 1]."""
        return (self.network(normalised(small)),)


@dataclass(frozen=True)
class Rewarded:
    """Small copies of pictures, and what the teacher's answer to each adds in standard deviations.

    Attributes:
        order: which of them picture k of a training is.
    """

    small: Small
    rewards: FloatArray
    order: Order

    def __getitem__(self, k: int) -> tuple[Small, float]:
        index = self.order.image_at(k)
        return self.small[index], float(self.rewards[index])


class _Bench(nn.Module):
    """A network with its loss, the squared error of the predicted gain."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, small: Tensor, rewards: Tensor) -> dict[str, Tensor]:
        gains = self.network(normalised(small).contiguous(memory_format=torch.channels_last))
        return {"loss": functional.mse_loss(gains[:, 0].float(), rewards)}


def front_learner(network: nn.Module, small: Small, rewards: FloatArray, watching: int, seed: int) -> Learner:
    """A training of a front router's network.

    Args:
        small: [N, 3, size, size] uint8; rewards: [N] of `types.Mixtures.reward`.
        watching: so many pictures, the last ones, only choose which weights are taken.

    Raises:
        InvalidInput: rewards that are all the same.
    """
    count = len(small) - watching
    if not np.ptp(rewards[:count]):
        raise InvalidInput("Expected pictures on which student and teacher differ, got none to learn from.")
    scaled = (rewards - rewards[:count].mean()) / rewards[:count].std()
    pictures = Rewarded(small[:count], np.clip(scaled, -CLIPPED, CLIPPED), Order(count, seed))

    def judge(trained: nn.Module) -> Mapping[str, float]:
        router = FrontRouter(trained, small.shape[-1], str(next(trained.parameters()).device))
        return {"correlation": correlation(router.scores(list(small[count:])), rewards[count:])}

    return Learner(
        FrontRouter.name, network, _Bench(network), pictures, _collate, count, (), "correlation", judge
    )


def _collate(rows: Sequence[tuple[Small, float]]) -> tuple[Tensor, Tensor]:
    small, rewards = zip(*rows, strict=True)
    return torch.from_numpy(np.stack(small)), torch.tensor(rewards, dtype=torch.float32)
