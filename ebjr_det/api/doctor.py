"""Whether this installation can make a result (`ebjr-det doctor`).

Reads package metadata; imports torch and torchvision only to try them.
"""

import platform
from dataclasses import dataclass
from importlib.metadata import distribution

from ebjr_det.io.checkpoints.finding import folders, manifest
from ebjr_det.io.environment import DISTRIBUTION, device_name, explain_torchvision, line_of, version_of
from ebjr_det.io.files import checksum
from ebjr_det.io.third_party import install_hint
from ebjr_det.reporting.notation import plural
from ebjr_det.runtimes.registry import RUNTIMES, installed


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
        version = version_of(need.name)
        if version is not None and need.specifier.contains(version, prereleases=True):
            checks.append(Check(need.name, "ok", version))
        else:
            command = f"pip install '{need.name}{need.specifier}'"
            checks.append(Check(need.name, "fault", f"{version or 'missing'}; {command}"))
    return checks


def _torch_pair() -> list[Check]:
    """torch, torchvision's compiled operators, and the device."""
    try:
        import torch
    except Exception as error:
        return [Check("torch runs", "fault", line_of(error))]
    checks = [Check("torch runs", "ok", f"{torch.__version__}, {plural(torch.get_num_threads(), 'thread')}")]
    try:
        from torchvision.ops import nms

        nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        checks.append(Check("torchvision fits torch", "ok", f"{version_of('torchvision')}"))
    except Exception as error:
        checks.append(Check("torchvision fits torch", "fault", explain_torchvision(error)))
    gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if gpu else f"no GPU; runs on the CPU ({device_name('cpu')})"
    return [*checks, Check("device", "ok" if gpu else "note", device)]


def _runtimes() -> list[Check]:
    """Which of the optional runtimes are installed, and how to get the missing ones."""
    return [
        Check(f"runtime {runtime.name}", "ok", runtime.what)
        if installed(runtime)
        else Check(f"runtime {runtime.name}", "note", f"not here; {install_hint(runtime.extra)}")
        for runtime in RUNTIMES.values()
    ]


def _weights() -> list[Check]:
    checks = []
    for name, entry in manifest().items():
        paths = [folder / file for folder in folders() for file in entry.files]
        weights = next((path for path in paths if path.is_file()), None)
        if weights is None:
            checks.append(Check(name, "note", f"not here; from {entry.source}"))
        elif checksum(weights).startswith(entry.sha256):
            checks.append(Check(name, "ok", str(weights)))
        else:
            checks.append(Check(name, "fault", f"{weights} has another checksum; fetch it again"))
    return checks
