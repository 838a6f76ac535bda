"""`train`: a network trained on labelled images, for all classes or for the popular ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import yaml

from ebjr_det.api.space import bytes_of_training
from ebjr_det.config import TrainConfig
from ebjr_det.core.errors import CheckpointError, ConfigError, listed
from ebjr_det.evaluation.run_folder import ENVIRONMENT, SUMMARY, check_folder, open_training
from ebjr_det.io.checkpoints.finding import find_checkpoint
from ebjr_det.io.checkpoints.fitting import load_fitting
from ebjr_det.io.checkpoints.reading import read_state
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_space, checksum, to_json, write_text
from ebjr_det.io.loader import first_readable
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import check_packages
from ebjr_det.io.threads import on_threads
from ebjr_det.io.yaml import FlatDumper
from ebjr_det.reporting.training import write_training_figure
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import DataSet, LearnerSettings, facts_of
from ebjr_det.tasks.popular import Popular
from ebjr_det.tasks.settings import load_train_config

if TYPE_CHECKING:
    from ebjr_det.training.loop import Learner, Trainer

ENTRY = "manifest_entry.yaml"
ROUNDING = {False: 0.01, True: 0.02}
"""How far a file's quality may lie from the training's, beside one picture's share; True: half precision."""
MOST_NAMES = 4


@dataclass(frozen=True)
class Trained:
    """What a training made: its network as inference reads it, and how it went.

    Attributes:
        popular: the classes of a specialised network, None for one of all classes.
        weights: the file, of so many `bytes`; `macs`: multiply-adds an image; `facts`: further exact numbers.
        validation: numbers on the validation images, that called `quality` among them; None without any.
        kept_step: the step whose weights were kept; `pictures`: seen in all `steps`.
        pair: the configuration of the pair that `specialize` writes.
    """

    title: str
    model: str
    popular: Sequence[str] | None
    weights: str
    sha256: str
    bytes: int
    macs: float
    facts: Mapping[str, object]
    validation: Mapping[str, float] | None
    validation_by_class: Mapping[str, float] | None
    quality: str
    steps: int
    kept_step: float
    pictures: int
    seconds: float
    run_dir: str
    pair: str | None = None

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        values: dict[str, object] = {}
        for name, value in vars(self).items():
            values |= value if name == "facts" else {name: value}
        if self.pair is None:
            del values["pair"]
        return values


@on_threads("schedule")
def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    prepare: Callable[[], None] = lambda: None,
    data: DataSet | None = None,
) -> Trained | None:
    """Train to the end of the schedule; the folder then holds weights, log, its plot and a summary.

    Killed at any moment, it goes on with `resume` to the same weights. Several processes that `torchrun`
    starts train one network; the first writes, and the others return None.

    Args:
        prepare: called in the first process when all is checked, before anything is written.
        data: the set that `config.data` names, where it was built already.

    Raises:
        EbjrError: settings, data, weights and `out` are checked before anything is computed.

    Example:
        >>> from ebjr_det import load_train_config, train
        >>> train(load_train_config("train.yaml"), "trained").steps
        4
    """
    from ebjr_det.inference.pair import resolve_device
    from ebjr_det.training.loop import Trainer
    from ebjr_det.training.ranks import Ranks

    if config.schedule.tensorboard:
        check_packages(["tensorboard"], "tensorboard", "for `schedule.tensorboard`")
    ranks, folder = Ranks.join(resolve_device(config.schedule.device)), Path(out)
    if ranks.first:  # before it begins a folder that later processes would find begun
        check_folder(folder, resume)
    training = _Training.build(config, ranks.device, data)
    trainer = Trainer(training.learner, config.schedule, folder, ranks)
    if ranks.first:
        check_space(folder, training.least_bytes(folder))
        prepare()
        open_training(folder, config, resume, load_train_config)
    ranks.wait()
    started = monotonic()
    trainer.run()
    seconds = monotonic() - started
    ranks.leave()
    return training.write_result(trainer, seconds) if ranks.first else None


@dataclass(frozen=True)
class _Training:
    """What a configuration names, built.

    Attributes:
        data: with the classes of the model, which are those of `popular` where it is specialised.
        watched: the validation images, likewise.
        settings: of the model, for its builder.
        macs, facts: of the model, which learning does not change.
    """

    config: TrainConfig
    data: DataSet
    watched: DataSet | None
    learner: "Learner"
    settings: Mapping[str, object]
    device: str
    popular: Popular | None
    macs: float
    facts: Mapping[str, object]

    @classmethod
    def build(cls, config: TrainConfig, device: str, data: DataSet | None) -> "_Training":
        import torch

        data, watched, popular = _data_of(config, data)
        task, taught = load_task(config.task), data
        if popular is not None:
            taught = task.popular.narrow(data, popular)
            watched = watched and task.popular.narrow(watched, popular)
        torch.manual_seed(config.schedule.seed)  # fresh weights follow from it
        settings = config.model.built() | {"random_weights": True}
        model = task.models.build_model(taught, device=device, **settings)
        image = first_readable(taught)
        macs, facts = macs_of(model, image, config.model.macs, "model.macs"), facts_of(model, image)
        teacher = None
        if config.teacher is not None:
            teacher = task.models.build_model(data, device=device, **config.teacher.built())
        learning = LearnerSettings(
            config.schedule.seed, dict(config.augment), dict(config.loss), popular, config.popular_share
        )
        learner = task.training.build_learner(model, taught, watched, learning, teacher=teacher)
        if config.initial is not None:
            load_fitting(learner.network, read_state(find_checkpoint(config.initial)), config.initial)
        return cls(config, taught, watched, learner, settings, device, popular, macs, facts)

    def least_bytes(self, folder: Path) -> int:
        """Bytes that go to the folder, at least."""
        from ebjr_det.training.state import STATE

        learner, plan, begun = self.learner, self.config.schedule, (folder / STATE).is_file()
        steps, judged = plan.steps_of(learner.count), learner.judge is not None
        return bytes_of_training(learner.network, plan, steps, judged=judged, begun=begun)

    def write_result(self, trainer: "Trainer", seconds: float) -> Trained:
        """Leave the plot of the log, the environment, an entry for a manifest and, last, the summary."""
        config, folder, learner = self.config, trainer.folder, self.learner
        title = config.title or learner.name
        write_training_figure(folder / "log", trainer.log, title=title, quality=learner.quality)
        trained = self._result(trainer, seconds)
        write_text(folder / ENVIRONMENT, to_json(describe_environment(self.device, config.schedule.seed)))
        write_text(folder / ENTRY, manifest_entry(config, trained))
        write_text(folder / SUMMARY, to_json(trained.to_dict()))
        return trained

    def _result(self, trainer: "Trainer", seconds: float) -> Trained:
        """The trained model as inference reads its file: what it is, what it costs, how it does.

        Raises:
            CheckpointError: it does not do on the validation images as it did in the training.
        """
        from ebjr_det.training.state import WEIGHTS

        config, folder = self.config, trainer.folder
        weights = folder / WEIGHTS
        settings = {**self.settings, "checkpoint": str(weights), "sha256": None, "random_weights": False}
        images = self.data if self.watched is None else self.watched
        model = load_task(config.task).models.build_model(images, device=self.device, **settings)
        judge, quality = self.learner.judge_model, self.learner.quality
        judged = None if judge is None else judge(model)
        if judged is not None:
            allowed = ROUNDING[config.schedule.weights == "float16"] + 1 / len(images)
            _check_reproduced(weights, quality, trainer.saved_row, judged.numbers[quality], allowed)
            _warn_of_unlearned(judged.by_class)
        return Trained(
            title=config.title,
            model=model.name,
            popular=None if self.popular is None else list(self.popular.names),
            weights=str(weights),
            sha256=checksum(weights),
            bytes=weights.stat().st_size,
            macs=self.macs,
            facts=self.facts,
            validation=None if judged is None else dict(judged.numbers),
            validation_by_class=None if judged is None else dict(judged.by_class),
            quality=quality,
            steps=trainer.steps,
            kept_step=trainer.saved_row["step"],
            pictures=trainer.steps * config.schedule.batch_size,
            seconds=seconds,
            run_dir=str(folder),
        )


def _data_of(config: TrainConfig, data: DataSet | None) -> tuple[DataSet, DataSet | None, Popular | None]:
    """The training images, the validation images, and the popular classes if the model has only those."""
    from ebjr_det.inference.pair import popular_of

    build_data = load_task(config.task).data.build_data
    data = data or build_data(**dict(config.data))
    watched = None if config.validation is None else build_data(**dict(config.validation))
    if watched is not None and watched.class_names != data.class_names:
        raise ConfigError(
            f"Expected `validation` to have the {len(data.class_names)} classes of `data`, got "
            f"{len(watched.class_names)}, such as {', '.join(watched.class_names[:3])}."
        )
    popular = popular_of(config.model, data)
    if popular is None and config.popular_share is not None:
        raise ConfigError("Expected `model.popular` classes beside `popular_share`, got none.")
    return data, watched, popular


def _check_reproduced(
    weights: Path, quality: str, row: Mapping[str, float], read: float, allowed: float
) -> None:
    """Raise where the file's quality is not that of its row of the log: a class elsewhere, weights lost."""
    if not abs(read - row[quality]) <= allowed:
        raise CheckpointError(
            f"Expected `{weights}`, read as `evaluate` reads it, to have {quality} {row[quality]:.4f} as at "
            f"step {int(row['step']):,} of its training, within {allowed:.4f}, got {read:.4f}. It stays "
            "where it is; where `schedule.weights` is float16, try float32."
        )


def _warn_of_unlearned(by_class: Mapping[str, float]) -> None:
    """Name on stderr the classes that were never right."""
    unlearned = [name for name, value in by_class.items() if value == 0]
    if unlearned:
        say(
            f"{len(unlearned)} of {len(by_class)} classes were never right on the validation images: "
            f"{listed(unlearned, MOST_NAMES)}."
        )


def manifest_entry(config: TrainConfig, trained: Trained) -> str:
    """An entry for `checkpoints/manifest.yaml`; its source and its licence are left to be filled in."""
    quality, popular = trained.quality, trained.popular
    judged = ""
    if trained.validation is not None:
        judged = f" {quality} {trained.validation[quality]:.4f} on the validation images."
    classes = "" if popular is None else f" of {len(popular)} popular classes and other"
    note = (
        f"{trained.model}{classes}, {trained.facts.get('parameters', 0):,} parameters, trained for "
        f"{trained.steps:,} steps of {config.schedule.batch_size}, seed {config.schedule.seed}; "
        f"step {trained.kept_step:,} was kept.{judged}"
    )
    entry = {"files": [trained.weights], "sha256": trained.sha256, "source": "", "licence": "", "note": note}
    return yaml.dump({Path(trained.run_dir).name: entry}, Dumper=FlatDumper, sort_keys=False)
