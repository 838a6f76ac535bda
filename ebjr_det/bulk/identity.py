"""What the answers of a job depend on beside its pictures; two jobs that share it can share shards."""

from hashlib import sha256
from pathlib import Path

from ebjr_det.config import EvaluateConfig, identity
from ebjr_det.config.tiers import tiers_of
from ebjr_det.inference.calibration_part import CalibrationPart, eight_bits_of, in_eight_bits
from ebjr_det.inference.exported import Exported
from ebjr_det.inference.live import Settings
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.files import checksum, to_json
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Classes


def identity_of(config: Settings, classes: Classes, scoring: Scoring, threshold: float) -> dict[str, object]:
    """Everything but the pictures that answers depend on, as plain values.

    Args:
        config: settled, with the checksums, runtimes and device that are taken.
    """
    run, ids = config.run, getattr(classes, "categories", dict(enumerate(classes.class_names)))
    front = config.router.front
    return (_of_files(config) if isinstance(config, Exported) else _of_settings(config)) | {
        **({} if front is None else {"front": [checksum(Path(front)), str(config.router.front_threshold)]}),
        "classes": sha256(to_json(list(ids.items())).encode()).hexdigest(),
        "score": scoring.name,
        "threshold": str(threshold),
        "batch_size": run.batch_size,
        "teacher_batch": run.teacher_batch or run.batch_size,
    }


def _of_files(pair: Exported) -> dict[str, object]:
    """What an export is, and how it runs here."""
    return {
        "pair": sha256(pair.content.model_dump_json().encode()).hexdigest(),
        "run.device": pair.device,
        "eight_bits": {side: graph.by for side, graph in pair.eight_bits.items()},
    }


def _of_settings(config: EvaluateConfig) -> dict[str, object]:
    """The settings that records depend on, without those of data, which here only name classes.

    The routers of further tiers, which stand beside the records, decide here; and networks in eight bits are
    what the pictures of their calibration made of them.
    """
    settings, tiers = _without_data(identity(config)), tiers_of(config)
    for index, (_, router) in enumerate(tiers[1:-1], 1):
        decision = {"score": router.score, "options": router.options, "threshold": str(router.threshold)}
        settings[f"tiers.{index}.router"] = decision
    if in_eight_bits(config):
        data = load_task(config.task).data.build_data(**dict(config.data))
        settings |= eight_bits_of([CalibrationPart(config, data)])
    return settings


def _without_data(settings: dict[str, object]) -> dict[str, object]:
    return {
        key: _without_data(value) if key == "teacher.options" and isinstance(value, dict) else value
        for key, value in settings.items()
        if not key.startswith("data.")
    }
