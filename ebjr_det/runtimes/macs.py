"""Multiply-adds of a network, counted while it answers one image. One multiply-add = 1 MAC."""

from collections.abc import Callable
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Opaque
from ebjr_det.runtimes.graph_file import RunsFile


def count_macs(call: Callable[[], object], setting: str = "macs") -> int:
    """Multiply-adds that torch's own counter sees while `call()` runs: its FLOPs, halved.

    Counts convolutions, matrix products and attention; element-wise work, norms and pooling are 0, as in
    the tables of most papers. `call` must run one image through a network.

    Args:
        setting: which one states them where they cannot be counted.

    Raises:
        InvalidInput: the counter saw no such operation (a network that torch does not run).
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # fused attention hides its matrix products
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    flops = int(counter.get_total_flops())
    if not flops:
        raise InvalidInput(
            "Expected a network with convolutions or matrix products run by torch, counted none. "
            f"State its multiply-adds an image as `{setting}`."
        )
    return flops // 2


def macs_of(model: Any, image: Opaque, stated: float | None = None, setting: str = "macs") -> float:
    """Multiply-adds of a model an image: as stated by a setting, else counted on this image.

    Where a model can change its runtime its network is counted in eager torch, which the counter sees.
    """
    if stated is not None:
        return stated
    if isinstance(model, RunsFile):
        return model.macs
    eager = getattr(model, "eager", None)
    if eager is not None:
        return count_macs(lambda: eager(model.batch([model.preprocess(image)])), setting)
    return count_macs(lambda: model([model.preprocess(image)]), setting)
