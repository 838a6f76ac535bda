"""Energy that a GPU or a machine's processors have taken, by the counters that they keep themselves."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

JouleCounter: TypeAlias = Callable[[], float]
"""Joules since some moment; only differences mean anything."""
STEADY = 1.0
"""Seconds from which on a difference means something: a GPU's counter moves about ten times a second."""
POWERCAP = Path("/sys/class/powercap")
UNCOUNTED = (
    "No joules: no counter of energy can be read here (NVML of a GPU, RAPL of a CPU in Linux's powercap)."
)


def joule_counter(device: str, powercap: Path = POWERCAP) -> JouleCounter | None:
    """The counter of a GPU, or on a CPU that of its packages; None where nothing tells.

    It counts the whole card, or all cores without the memory: idle draw and other processes included.
    Sources: NVML's nvmlDeviceGetTotalEnergyConsumption (nvidia-ml-py; Volta and later), in millijoules; RAPL
    of Intel and AMD in Linux's powercap, in microjoules, which on most machines root alone may read. No
    library lies between: pyRAPL and pyJoules stopped in 2019 and 2020, and zeus brings pandas with it.
    """
    if not device.startswith("cuda"):
        return _of_packages(powercap)
    if find_spec("pynvml") is None:
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


def _of_packages(powercap: Path) -> JouleCounter | None:
    try:
        zones = [
            zone for zone in sorted(powercap.glob("*-rapl:*")) if _text(zone / "name").startswith("package")
        ]
        return Packages(zones) if zones else None
    except (OSError, ValueError):
        return None


class Packages:
    """Joules that a machine's processor packages have taken since this was made.

    Args:
        zones: folders of powercap, each with `energy_uj`, which starts anew above `max_energy_range_uj`.
    """

    def __init__(self, zones: Sequence[Path]) -> None:
        self.files = [zone / "energy_uj" for zone in zones]
        self.ranges = [int(_text(zone / "max_energy_range_uj")) + 1 for zone in zones]
        self.last, self.total = [int(_text(file)) for file in self.files], 0

    def __call__(self) -> float:
        """Joules. One call at least is needed while a counter runs once through its range, about an hour."""
        readings = [int(_text(file)) for file in self.files]
        self.total += sum(
            (new - old) % size for new, old, size in zip(readings, self.last, self.ranges, strict=True)
        )
        self.last = readings
        return self.total / 1e6


def _text(file: Path) -> str:
    return file.read_text(encoding="ascii").strip()
