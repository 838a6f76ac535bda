"""What a result was made with, and whether this installation can make one (`ebjr-det doctor`).

Reads package metadata; imports torch and torchvision only to try them.
"""

import ctypes
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any

from ebjr_det.checkpoints import folders, manifest
from ebjr_det.errors import install_hint, plural
from ebjr_det.files import checksum
from ebjr_det.runtimes import RUNTIMES, installed
from ebjr_det.threads import WAITING, usable_cpus

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
        "versions": {name: found for name in REPORTED if (found := _version(name))},
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


@dataclass(frozen=True)
class Check:
    """One finding of the doctor: `state` is `ok`, `note` (works without it) or `fault`."""

    name: str
    state: str
    finding: str


def diagnose() -> list[Check]:
    """Everything that a run needs, each with what was found and, if it is wrong, what to do."""
    python = Check("python", "ok", platform.python_version())  # an older one cannot import this
    return [python, *_packages(), *_torch_pair(), *_runtimes(), *_weights()]


def _packages() -> list[Check]:
    from packaging.requirements import Requirement

    checks = []
    for line in distribution(DISTRIBUTION).requires or []:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        found = _version(need.name)
        if found is None:
            checks.append(Check(need.name, "fault", f"missing; pip install '{need.name}{need.specifier}'"))
        elif not need.specifier.contains(found, prereleases=True):
            checks.append(Check(need.name, "fault", f"{found}; pip install '{need.name}{need.specifier}'"))
        else:
            checks.append(Check(need.name, "ok", found))
    return checks


def _torch_pair() -> list[Check]:
    """torch, torchvision's compiled operators, and the device."""
    try:
        import torch
    except Exception as error:
        return [Check("torch runs", "fault", _line(error))]
    checks = [Check("torch runs", "ok", f"{torch.__version__}, {plural(torch.get_num_threads(), 'thread')}")]
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        checks.append(Check("torchvision fits torch", "ok", f"{_version('torchvision')}"))
    except Exception as error:
        checks.append(Check("torchvision fits torch", "fault", explain_torchvision(error)))
    gpu = torch.cuda.is_available()
    found = torch.cuda.get_device_name() if gpu else f"no GPU; runs on the CPU ({device_name('cpu')})"
    return [*checks, Check("device", "ok" if gpu else "note", found)]


def _runtimes() -> list[Check]:
    """Which of the optional runtimes are here, and how to get the others."""
    return [
        Check(f"runtime {runtime.name}", "ok", runtime.what)
        if installed(runtime)
        else Check(f"runtime {runtime.name}", "note", f"not here; {install_hint(runtime.extra)}")
        for runtime in RUNTIMES.values()
    ]


def explain_torchvision(error: BaseException) -> str:
    """Plain words for a torchvision whose operators do not load: two builds that do not belong together."""
    pair = f"torch {_version('torch')} and torchvision {_version('torchvision')}"
    if "torchvision::nms" in str(error) or "undefined symbol" in str(error):
        return (
            f"{pair} are builds for different devices (one CPU-only, the other CUDA) or versions, so "
            "torchvision's operators do not load; install both from one index: "
            "pip install --force-reinstall torch torchvision"
        )
    return f"{pair}: {_line(error)}"


def _weights() -> list[Check]:
    checks = []
    for name, entry in manifest().items():
        paths = [folder / file for folder in folders() for file in entry.files]
        found = next((path for path in paths if path.is_file()), None)
        if found is None:
            checks.append(Check(name, "note", f"not here; from {entry.source}"))
        elif checksum(found).startswith(entry.sha256):
            checks.append(Check(name, "ok", str(found)))
        else:
            checks.append(Check(name, "fault", f"{found} has another checksum; fetch it again"))
    return checks


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the checkout that holds this package, `+` behind it when files were changed."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
