"""The runtimes of a pair: each network is given the one that the configuration names, or the fastest."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import cast

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import Model
from ebjr_det.inference.absent import AbsentModel
from ebjr_det.inference.calibration_part import CalibrationPart
from ebjr_det.io.loader import readable
from ebjr_det.runtimes.choose import AUTO, EAGER, Calibration, choose_for_file, choose_runtime
from ebjr_det.runtimes.graph_file import RunsFile
from ebjr_det.runtimes.registry import EIGHT_BITS
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import Picture, RunsAnywhere


def make_ready(
    config: EvaluateConfig,
    models: tuple[Model, Model],
    samples: Callable[[], Sequence[Picture]],
    device: str,
    part: Callable[[], CalibrationPart] | None = None,
    *,
    choosing: bool = False,
) -> EvaluateConfig:
    """Give student and teacher the runtimes that the configuration names.

    Args:
        samples: pictures on which a runtime is tried; not asked for where none is.
        part: what networks in eight bits are calibrated on; likewise. Without it the samples do.
        choosing: whether a threshold is still to be chosen, so that `auto` may take eight bits.

    Returns:
        the configuration with the runtimes that were taken, where it says `auto`.

    Raises:
        ConfigError: see `runtimes.choose_runtime`; also a model whose network no runtime can take.
    """
    sections, part = {}, part and cache(part)
    for side, model in zip(("student", "teacher"), models, strict=True):
        section, inner = getattr(config, side), plain(model)
        if isinstance(inner, AbsentModel):
            continue
        if isinstance(inner, RunsFile) and section.runtime != AUTO:
            name = inner.run_in(section.runtime, device)
        elif section.runtime == EAGER:
            continue
        else:
            label, tolerance = f"{side} {model.name}", config.run.tolerance
            calibration = None
            if part and (section.runtime in EIGHT_BITS or (choosing and section.runtime == AUTO)):
                calibration = part().of(model)
            name = _put_in(
                section.runtime, inner, samples, device, model=label, tolerance=tolerance,
                calibration=calibration,
            )  # fmt: skip
        sections[side] = section.model_copy(update={"runtime": name})
    return config.model_copy(update=sections)


def make_ready_on(part: CalibrationPart, models: tuple[Model, Model], device: str) -> EvaluateConfig:
    """`make_ready` by the configuration of a part, with runtimes tried on images of its set."""
    config, data = part.config, part.data
    spread = sorted({0, len(data) // 3, 2 * len(data) // 3, len(data) - 1})
    samples, choosing = partial(readable, data, spread), config.router.threshold is None
    return make_ready(config, models, samples, device, lambda: part, choosing=choosing)


def _put_in(
    runtime: str, inner: Model, samples: Callable[[], Sequence[Picture]], device: str, *, model: str,
    tolerance: float, calibration: Calibration | None,
) -> str:  # fmt: skip
    """The runtime that a network is given: the named one, or with `auto` the fastest that was tried."""
    from torch import nn

    if not isinstance(inner, RunsFile) and not (
        isinstance(inner, RunsAnywhere) and isinstance(inner.graph, nn.Module)
    ):
        side, _, name = model.partition(" ")
        raise ConfigError(
            f"Expected runtime `{EAGER}` for `{name}`, whose network no other one can take, got "
            f"`{runtime}`. Set `{side}.runtime`."
        )
    batched = cast(RunsAnywhere, inner)
    pictures = batched.batch([batched.preprocess(picture) for picture in samples()])
    if isinstance(inner, RunsFile):
        opened = partial(inner.file.open, inner.size, device=device)
        return inner.run_in(
            choose_for_file(opened, pictures, device, model=model, tolerance=tolerance), device
        )
    name, batched.run = choose_runtime(
        runtime, batched.graph, pictures, device, model=model, tolerance=tolerance, calibration=calibration
    )
    return name
