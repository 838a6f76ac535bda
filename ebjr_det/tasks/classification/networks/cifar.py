"""CIFAR classifiers as plain `torch.nn.Module`s, each built from its depth and its growth or width.

Every network maps normalised images `[images, 3, height, width]` to logits `[images, num_classes]`. Module
names follow bearpaw/pytorch-classification, from which EBJR started: its checkpoints load with `strict=True`
once their `module.` prefix is gone. Weights start as in He et al. 2015 (arXiv 1502.01852), fan-out.
Knows nothing about files, normalisation, training, labels or energies.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError, InvalidInput, did_you_mean

# name: (kernel size of each convolution in a unit, output channels / inner channels)
_BLOCKS: dict[str, tuple[tuple[int, ...], int]] = {"basic": ((3, 3), 1), "bottleneck": ((1, 3, 1), 4)}


def densenet(num_classes: int, depth: int, growth: int, compression: int = 2) -> nn.Module:
    """DenseNet-BC for 32x32 images: each layer sees the outputs of all layers before it in its block.

    Three blocks of n = (depth - 4) / 6 bottleneck layers; a layer adds `growth` channels, the stem has
    2·growth, and a transition keeps floor(channels / `compression`), the paper's theta = 1/compression.
    Raises ConfigError for a depth other than 6n+4 or a compression that leaves no channel; the network raises
    InvalidInput for images of another size. Source: Huang et al. 2017, arXiv 1608.06993, section 3.

    >>> sum(p.numel() for p in densenet(10, depth=52, growth=6).parameters())
    68704
    """
    _check_positive(num_classes=num_classes, growth=growth, compression=compression)
    return _DenseNet(num_classes, _units_per_stage(depth, 6, 4), growth, compression)


def resnet(num_classes: int, depth: int, width: int = 16, block: str = "basic") -> nn.Module:
    """Residual network: three stages of n units of y = relu(F(x) + shortcut(x)).

    Depth is 6n+2 for `basic` units (two 3x3) and 9n+2 for `bottleneck` units (1x1, 3x3, 1x1 to 4 times the
    channels). Stages have width, 2·width and 4·width inner channels. Where shapes change the shortcut is a
    1x1 convolution with norm (the paper's option B; its CIFAR table uses option A, zero padding: 2,752
    parameters less at width 16). bearpaw's "resnet-110" has bottleneck units: here, depth 164. Raises
    ConfigError for another depth or an unknown block. Source: He et al. 2016, arXiv 1512.03385, section 4.2.

    >>> sum(p.numel() for p in resnet(10, depth=20).parameters())
    272474
    """
    return _residual(_RESNET, num_classes, depth, width, block)


def preresnet(num_classes: int, depth: int, width: int = 16, block: str = "basic") -> nn.Module:
    """Pre-activation residual network: y = F(x) + shortcut(x), each convolution preceded by norm and ReLU.

    Depths, arguments, shapes and errors as in `resnet`. Where shapes change the shortcut is a bare 1x1
    convolution of x itself, as in bearpaw's code (the paper's code feeds it the activated x).
    Source: He et al. 2016, arXiv 1603.05027, equation 5 and figure 4e.

    >>> preresnet(10, depth=8)(torch.zeros(2, 3, 24, 40)).shape
    torch.Size([2, 10])
    """
    return _residual(_PRERESNET, num_classes, depth, width, block)


def wrn(num_classes: int, depth: int, width: int) -> nn.Module:
    """Wide residual network WRN-depth-width: pre-activation basic units, `width` times wider, no dropout.

    Depth is 6n+4; stages have 16, 32 and 64 channels times `width`, the widen factor; the stem has 16.
    Raises ConfigError for another depth. Source: Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 1.

    >>> sum(p.numel() for p in wrn(10, depth=16, width=4).parameters())
    2748890
    """
    _check_positive(num_classes=num_classes, width=width)
    return _ResidualNet(_WRN, num_classes, _units_per_stage(depth, 6, 4), 16, 16 * width, "basic")


_Builder = Callable[..., nn.Module]
NETWORKS: dict[str, _Builder] = {"densenet": densenet, "resnet": resnet, "preresnet": preresnet, "wrn": wrn}


def _check_positive(**settings: int) -> None:
    for name, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"Expected `{name}` to be a whole number >= 1, got {value!r}. Set 1 or more.")


def _units_per_stage(depth: int, slope: int, offset: int) -> int:
    """N in depth = slope·n + offset, n >= 1; ConfigError names the nearest valid depth."""
    _check_positive(depth=depth)
    units = max(1, (depth - offset + slope // 2) // slope)
    nearest = slope * units + offset
    if depth != nearest:
        formula = f"{slope}n+{offset} ({slope + offset}, {2 * slope + offset}, {3 * slope + offset}, ...)"
        raise ConfigError(f"Expected `depth` to be {formula}, got {depth}. Nearest: {nearest}.")
    return units


def _residual(family: "_Family", num_classes: int, depth: int, width: int, block: str) -> nn.Module:
    _check_positive(num_classes=num_classes, width=width)
    if block not in _BLOCKS:
        hint = did_you_mean(str(block), _BLOCKS)
        raise ConfigError(f"Expected `block` to be a known block, got {block!r}. {hint}")
    units = _units_per_stage(depth, 3 * len(_BLOCKS[block][0]), 2)
    return _ResidualNet(family, num_classes, units, width, width, block)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = _conv(channels, 4 * growth, 1)
        self.bn2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = _conv(4 * growth, growth, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv1(self.relu(self.bn1(x)))
        new = self.conv2(self.relu(self.bn2(new)))
        return torch.cat((x, new), dim=1)


class _Transition(nn.Module):
    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = _conv(channels, outputs, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.relu(self.bn1(x)))
        return functional.avg_pool2d(x, 2)  # no module: EBJR's FLOPs, which count modules, leave it out


class _DenseNet(nn.Module):
    def __init__(self, num_classes: int, layers: int, growth: int, compression: int) -> None:
        super().__init__()
        channels = 2 * growth
        self.conv1 = _conv(3, channels, 3)
        for stage in (1, 2, 3):
            if stage > 1:
                if compression > channels:
                    problem = f"at most {channels} (the channels before block {stage}), got {compression}"
                    raise ConfigError(f"Expected `compression` to be {problem}. The paper's value is 2.")
                self.add_module(f"trans{stage - 1}", _Transition(channels, channels // compression))
                channels //= compression
            layer_inputs = range(channels, channels + layers * growth, growth)
            self.add_module(f"dense{stage}", nn.Sequential(*(_DenseLayer(c, growth) for c in layer_inputs)))
            channels += layers * growth
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(8)  # all that two halvings leave of 32x32
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (32, 32):
            raise InvalidInput(f"Expected `x` to be 32x32 images, got shape {list(x.shape)}. Resize them.")
        for name in ("conv1", "dense1", "trans1", "dense2", "trans2", "dense3"):
            x = self.get_submodule(name)(x)
        x = self.fc(self.pool(self.relu(self.bn(x))).flatten(1))
        return x


class _Family(NamedTuple):
    """What tells the residual families apart, and the module names of their state dicts."""

    norm_first: bool  # norm and ReLU before each convolution, not after it
    activated_shortcut: bool  # a convolution in the shortcut sees the activated input
    stage: str
    norm: str  # the network's own norm: after the stem, or after the stages where norms come first


_RESNET = _Family(norm_first=False, activated_shortcut=False, stage="layer{}", norm="bn1")
_PRERESNET = _Family(norm_first=True, activated_shortcut=False, stage="layer{}", norm="bn")
_WRN = _Family(norm_first=True, activated_shortcut=True, stage="block{}.layer", norm="bn1")


class _Unit(nn.Module):
    """Convolutions, norm and ReLU between them (and before the first or after the last), and a shortcut."""

    def __init__(self, family: _Family, channels: int, inner: int, stride: int, block: str) -> None:
        super().__init__()
        kernels, expansion = _BLOCKS[block]
        last, out, first = len(kernels), inner * expansion, family.norm_first
        widths = (channels, *[inner] * (last - 1), out)
        for i, kernel in enumerate(kernels):
            inputs, outputs = widths[i], widths[i + 1]
            conv = _conv(inputs, outputs, kernel, stride if i == kernels.index(3) else 1)
            self.add_module(f"conv{i + 1}", conv)
            self.add_module(f"bn{i + 1}", nn.BatchNorm2d(inputs if first else outputs))
        self.relu = nn.ReLU(inplace=True)
        self.family, self.last_norm = family, f"bn{last}"
        self.between = [(f"bn{i if first else i - 1}", f"conv{i}") for i in range(2, last + 1)]
        self.reshapes = stride != 1 or channels != out
        if self.reshapes and family.activated_shortcut:
            self.convShortcut = _conv(channels, out, 1, stride)
        elif self.reshapes:
            norm = [] if first else [nn.BatchNorm2d(out)]
            self.downsample = nn.Sequential(_conv(channels, out, 1, stride), *norm)

    def forward(self, x: Tensor) -> Tensor:
        step, norm_first = self.get_submodule, self.family.norm_first
        active: Tensor = self.relu(step("bn1")(x)) if norm_first else x
        out: Tensor = step("conv1")(active)
        for norm, conv in self.between:
            out = step(conv)(self.relu(step(norm)(out)))
        if self.reshapes:
            x = self.convShortcut(active) if self.family.activated_shortcut else self.downsample(x)
        x = out + x if norm_first else self.relu(step(self.last_norm)(out) + x)
        return x


class _ResidualNet(nn.Module):
    def __init__(self, family: _Family, classes: int, units: int, stem: int, width: int, block: str) -> None:
        super().__init__()
        self.family, channels = family, stem
        self.conv1 = _conv(3, stem, 3)
        for stage in range(3):
            body = nn.Sequential()
            for i in range(units):
                body.append(_Unit(family, channels, width * 2**stage, 2 if stage and not i else 1, block))
                channels = width * 2**stage * _BLOCKS[block][1]
            name, _, nested = family.stage.format(stage + 1).partition(".")
            self.add_module(name, nn.ModuleDict({nested: body}) if nested else body)
        self.add_module(family.norm, nn.BatchNorm2d(channels if family.norm_first else stem))
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.get_submodule(self.family.norm)
        x = self.conv1(x) if self.family.norm_first else self.relu(norm(self.conv1(x)))
        for stage in (1, 2, 3):
            x = self.get_submodule(self.family.stage.format(stage))(x)
        x = self.relu(norm(x)) if self.family.norm_first else x
        x = self.fc(self.pool(x).flatten(1))
        return x
