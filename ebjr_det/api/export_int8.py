"""`export --int8`: both models of an exported folder in eight bits too, for processors that have them."""

from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from ebjr_det.config import EvaluateConfig
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.core.types import FloatArray, Model
from ebjr_det.inference.calibration_part import CalibrationPart
from ebjr_det.inference.export_file import (
    INT8_VERSION,
    ExportedEightBits,
    ExportedPair,
    GraphInEightBits,
    Side,
    thinned,
)
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.files import checksum
from ebjr_det.io.notes import say
from ebjr_det.runtimes.int8 import BY, EightBits, enough, quantise
from ebjr_det.runtimes.onnx import Session
from ebjr_det.runtimes.registry import EIGHT_BITS, Network
from ebjr_det.tasks import load_task


def in_eight_bits(
    config: EvaluateConfig, models: Mapping[str, Model], pair: ExportedPair, scoring: Scoring, folder: Path
) -> ExportedPair:
    """The pair with graphs in eight bits in its folder too, of the models that keep their quality.

    The threshold is chosen anew: by the student's scores in eight bits it defers as large a share of the
    calibration part as the pair's own does in float, or in float as that does in eight bits, where the
    configuration has the student so.

    Args:
        models: by side, in eager torch, the student as its score looks at it.
        pair: what is in the folder by now.

    Raises:
        ConfigError: no calibration part, or both models lose more than `run.int8_loss`.
    """
    if set(models) != {"student", "teacher"}:
        raise ConfigError("Expected two models for `--int8`, got more. Leave it out.")
    part = CalibrationPart(config, load_task(config.task).data.build_data(**dict(config.data)))
    graphs, networks = dict[Side, GraphInEightBits](), dict[str, Network]()
    for side in get_args(Side):
        name = getattr(config, side).runtime
        by = BY[name if name in EIGHT_BITS else "onnxruntime_int8"]
        graph, network = _written(side, models[side], by, part, folder)
        networks[side] = network
        if graph is not None:
            graphs[side] = graph
    if not graphs:
        raise ConfigError(
            "Expected a model that keeps its quality in eight bits, got none. Leave out --int8."
        )
    thresholds, references = [pair.threshold] * 2, [pair.reference] * 2
    chosen = int(config.student.runtime in EIGHT_BITS)
    if "student" in graphs or chosen:
        runs = (Session(folder / pair.student.file), networks["student"])
        scores = [_scores(models["student"], network, scoring, part) for network in runs]
        share = float((scores[chosen] > pair.threshold).mean())
        thresholds[1 - chosen] = _threshold_for(scores[1 - chosen], share)
        if pair.reference is not None:
            references = [thinned(scores[0]) if chosen else pair.reference, thinned(scores[1])]
    eight_bits = ExportedEightBits(threshold=thresholds[1], reference=references[1], graphs=graphs)
    changes = {"threshold": thresholds[0], "reference": references[0], "int8": eight_bits}
    return pair.model_copy(update={**changes, "version": max(pair.version, INT8_VERSION)})


def say_in_float(config: EvaluateConfig) -> None:
    """Say where a threshold and reference scores of eight bits go beside a graph in float."""
    if (runtime := config.student.runtime) in EIGHT_BITS:
        say(
            f"Note: threshold and reference scores are those of runtime `{runtime}` of the student. Its "
            "graph is written in float, whose scores differ; for both, each with its threshold: --int8."
        )


def _threshold_for(scores: FloatArray, share: float) -> float:
    """The threshold that defers at most a share; for none or all of them just beyond the extreme score."""
    ends = np.nextafter(scores.min(), -np.inf), np.nextafter(scores.max(), np.inf)
    return float(np.clip(threshold_for_rate(scores, share), *ends))


def _written(
    side: str, model: Model, by: str, part: CalibrationPart, folder: Path
) -> tuple[GraphInEightBits | None, Network]:
    """A model's graph in eight bits and what runs it; no graph where it loses too much, which is said."""
    source, path = folder / f"{side}.onnx", folder / f"{side}-int8.onnx"
    calibration = part.of(model)
    quantise(source, pictures=enough(calibration.batch()), by=by, path=path)
    network, losses = EightBits(path, by), "no label tells what it loses"
    if calibration.quality is not None:
        in_float, quality = calibration.quality(Session(source)), calibration.quality(network)
        losses = f"{calibration.quality_name} {quality:.4f} for {in_float:.4f} in float"
        if in_float - quality > calibration.loss:
            path.unlink()
            say(f"{side} {model.name} stays in float: {losses} loses more than {calibration.loss:g}.")
            return None, network
    say(f"{side} {model.name} in eight bits: {losses}.")
    return GraphInEightBits(file=path.name, sha256=checksum(path), by=by, quality=losses), network


def _scores(model: Model, network: Network, scoring: Scoring, part: CalibrationPart) -> FloatArray:
    """An adapted student's deciding scores on the calibration part where its network is run so."""
    with part.run_by(model, network):
        return np.concatenate([scoring.score(output) for output, _ in part.answers(model)])
