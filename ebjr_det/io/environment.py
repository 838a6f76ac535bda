"""What a result was made with. Reads package metadata; imports torch only to name a GPU."""

import ctypes
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ebjr_det.io.threads import WAITING, usable_cpus

DISTRIBUTION = "ebjr-det"
REPORTED = (
    "torch", "torchvision", "timm", "effdet", "numba", "numpy", "scipy", "scikit-learn", "albumentations",
    "matplotlib", "pillow", "onnxruntime", "openvino",
)  # fmt: skip


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving each back to the system; a no-op elsewhere.

    A network frees and takes the same big activations for every batch; by default each time costs page
    faults, which take up to half of a CPU's time. Memory then stays at its peak until the process ends.
    Source: mallopt(3), M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def describe_environment(device: str, seed: int) -> dict[str, Any]:
    """What stands beside every result: versions, machine, device, git revision, seed, command."""
    return {
        "ebjr_det": version(DISTRIBUTION),
        "python": platform.python_version(),
        "versions": {name: number for name in REPORTED if (number := version_of(name))},
        "platform": platform.platform(),
        "device": device_name(device),
        "cpus": usable_cpus(),
        "torch_threads": torch.get_num_threads() if (torch := sys.modules.get("torch")) else None,
        "waiting": {name: os.environ.get(name) for name in WAITING},
        "load_average": list(os.getloadavg()),
        "git_revision": _git_revision(),
        "seed": seed,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }  # fmt: skip


def device_name(device: str) -> str:
    """`cuda` -> the GPU's product name, `cpu` -> the processor's."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """The processor's instructions as Linux tells them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(flags.split(":", 1)[1].split())


def version_of(name: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that holds this package, `+` behind it when files were changed."""
    git = ["git", "-C", str(Path(__file__).resolve().parent)]
    try:
        head, status = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True).stdout.strip()
            for command in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if status else "")


def explain_torchvision(error: BaseException) -> str:
    """Plain words for a torchvision whose operators do not load: two builds that do not belong together."""
    pair = f"torch {version_of('torch')} and torchvision {version_of('torchvision')}"
    if "torchvision::nms" in str(error) or "undefined symbol" in str(error):
        return (
            f"{pair} are builds for different devices (one CPU-only, the other CUDA) or versions, so "
            "torchvision's operators do not load; install both from one index: "
            "pip install --force-reinstall torch torchvision"
        )
    return f"{pair}: {line_of(error)}"


def line_of(error: BaseException) -> str:
    """An error with its kind, in one line of 300 letters at most."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
