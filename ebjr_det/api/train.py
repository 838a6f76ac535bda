"""`train`: a detector trained on annotated images."""

from dataclasses import fields
from pathlib import Path
from time import monotonic
from typing import Any

from ebjr_det.checkpoints import find_checkpoint, load_fitting, read_state
from ebjr_det.config import TrainConfig, dump_config, load_train_config
from ebjr_det.cost import count_macs
from ebjr_det.environment import describe_environment
from ebjr_det.errors import ConfigError
from ebjr_det.files import checksum, writable_folder, write_text
from ebjr_det.reporting.folder import CONFIG, ENVIRONMENT, SUMMARY, to_json
from ebjr_det.reporting.training import write_training_figure
from ebjr_det.tasks import room


def train(config: TrainConfig, out: str | Path, *, resume: bool = False) -> dict[str, Any]:
    """Train to the end of the schedule; the folder then holds weights, log, its plot and a summary.

    Killed at any moment, it goes on with `resume` to the same weights.

    Raises:
        EbjrError: settings, data, weights and `out` are checked before anything is computed.
    """
    from ebjr_det.pair import resolve_device

    rooms, plan = {name: room(config.task, name) for name in ("data", "model", "train")}, config.schedule
    device = resolve_device(plan.device)
    data = rooms["data"].build_data(**dict(config.data))
    watched = None if config.validation is None else rooms["data"].build_data(**dict(config.validation))
    if watched is not None and watched.class_names != data.class_names:
        raise ConfigError(
            f"Expected `validation` to have the classes of `data`, got {watched.class_names[:5]} and "
            f"{data.class_names[:5]}."
        )
    rooms["train"].seed_weights(plan.seed)
    model = config.model.model_copy(update={"random_weights": True})
    settings = {key: value for key, value in model if key != "macs"}
    detector = rooms["model"].build_model(data, device=device, **settings)
    if config.initial is not None:
        path = find_checkpoint(config.initial)
        load_fitting(detector.network, read_state(path), config.initial)
    folder = _open_folder(Path(out), config, resume)
    chosen = {field.name: getattr(plan, field.name) for field in fields(rooms["train"].Schedule)}
    trainer = rooms["train"].build_trainer(
        detector, data, watched, folder, rooms["train"].Schedule(**chosen), **dict(config.augment)
    )
    started = monotonic()
    trainer.run()
    weights = folder / rooms["train"].WEIGHTS
    write_training_figure(folder / "log", trainer.log, title=config.title or detector.name)
    trained = rooms["model"].build_model(data, device=device, **settings | {"checkpoint": str(weights)})
    image = data.load(0)
    summary = {
        "title": config.title,
        "model": trained.name,
        "weights": str(weights),
        "sha256": checksum(weights),
        "bytes": weights.stat().st_size,
        "macs": count_macs(lambda: trained([trained.preprocess(image)])),
        **trained.facts(image),
        "steps": plan.steps,
        "pictures": plan.steps * plan.batch_size,
        "validation": None if watched is None else rooms["train"].judge(trained, watched),
        "seconds": monotonic() - started,
        "run_dir": str(folder),
    }
    write_text(folder / ENVIRONMENT, to_json(describe_environment(device, plan.seed)))
    write_text(folder / SUMMARY, to_json(summary))
    return summary


def _open_folder(out: Path, config: TrainConfig, resume: bool) -> Path:
    """A new folder, or with `resume` that of the same training."""
    path = writable_folder(out) / CONFIG
    if not path.is_file():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise ConfigError(f"Expected an empty --out, got files in `{out}`.")
        write_text(path, dump_config(config))
    elif not resume:
        raise ConfigError(f"Expected an empty --out, got a run in `{out}`. Add --resume to go on with it.")
    elif load_train_config(path) != config:
        raise ConfigError(
            f"Expected the settings of the training in `{out}`, got others. Choose another --out."
        )
    return out
