"""Energy that a GPU has taken, by the counter that it keeps itself."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

JouleCounter: TypeAlias = Callable[[], float]
"""Joules since the driver was loaded; only differences mean anything."""
STEADY = 1.0
"""Seconds from which on a difference means something: the counter moves about ten times a second."""


def joule_counter(device: str) -> JouleCounter | None:
    """The counter of a GPU, or None where nothing tells: no GPU, no nvidia-ml-py, a card before Volta.

    It counts the whole card, idle draw and other processes included. Source: NVML's
    nvmlDeviceGetTotalEnergyConsumption, in millijoules.
    """
    if not device.startswith("cuda") or find_spec("pynvml") is None:
        return None
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        unique = torch.cuda.get_device_properties(device).uuid
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{unique}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    except (pynvml.NVMLError, AttributeError):
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(card)) / 1e3
