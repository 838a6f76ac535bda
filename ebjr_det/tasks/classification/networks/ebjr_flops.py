"""Floating-point operations as the EBJR authors' code counts them: the figures in their classification table.

The convention, for one image: a multiply-add is 2 FLOPs, and so is each of a few cheaper operations. What
calls a function instead of a module (such as the DenseNet transitions' pooling) does not count. For any
comparison outside that table use MACs. Knows nothing about data, weights or energies.
"""

import warnings

import torch
from torch import Tensor, nn

from ebjr_det.core.errors import InvalidInput

# Module types that really count 0 here; `nn.Sequential` and other containers do so when they are empty.
_FREE = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.dropout._DropoutNd,
    nn.Identity,
    nn.Flatten,
    nn.Sequential,
)


def count_ebjr_flops(network: nn.Module, example: Tensor) -> int:
    """FLOPs of `network` on one image, in the convention of the EBJR authors' code.

    2 x (convolution multiply-adds + ReLU outputs + pooling window x outputs of AvgPool2d and MaxPool2d
    + AdaptiveAvgPool2d inputs + linear weights + linear biases). Batch norm, dropout, identity, flatten and
    convolution biases count 0. Every call of a module counts, also of one that is called twice.
    `example`: `[1, channels, height, width]`; values do not matter, and device "meta" saves the work. Warns
    with the names of other leaf modules, which count 0. Raises InvalidInput for other than one image.
    Source: github.com/vbdi/ebjr, op_counter.py (there as multiply-adds, doubled by its caller).

    >>> count_ebjr_flops(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()), torch.zeros(1, 3, 4, 4))
    7168
    """
    if example.ndim == 0 or example.shape[0] != 1:
        shape = list(example.shape)
        raise InvalidInput(f"Expected `example` to hold 1 image, got shape {shape}. Pass `example[:1]`.")
    operations = 0
    unknown: set[str] = set()

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal operations
        added = _operations(module, inputs, output)
        if added is None:
            unknown.add(type(module).__name__)
        operations += added or 0

    modes = [(module, module.training) for module in network.modules()]
    leaves = [module for module, _ in modes if next(module.children(), None) is None]
    hooks = [module.register_forward_hook(count) for module in leaves]
    try:
        with torch.no_grad():
            network.eval()(example)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    if unknown:
        warnings.warn(f"EBJR FLOPs count these modules as 0: {', '.join(sorted(unknown))}.", stacklevel=2)
    return 2 * operations


def _operations(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int | None:
    """Operations of one call, half of its FLOPs; None for a module type that the convention does not name."""
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return output.numel() * (module.in_features + (module.bias is not None))
    if isinstance(module, nn.ReLU):
        return output.numel()
    if isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
        size = module.kernel_size
        height, width = (size, size) if isinstance(size, int) else size
        return output.numel() * height * width
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return inputs[0].numel()
    return 0 if isinstance(module, _FREE) else None
