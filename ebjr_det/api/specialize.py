"""`specialize`: popular classes chosen, a student trained for them, and the configuration of its pair."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from ebjr_det.api.preflight import check_ahead, check_settings
from ebjr_det.api.train import Trained, train
from ebjr_det.config import EvaluateConfig, SpecializeConfig, TrainConfig, load_histogram
from ebjr_det.core.errors import ConfigError, check_known
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.run_folder import CONFIG, SUMMARY, check_folder, open_training
from ebjr_det.io.files import to_json, write_text
from ebjr_det.io.yaml import FlatDumper
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import DataSet
from ebjr_det.tasks.popular import Popular
from ebjr_det.tasks.settings import load_specialize_config, parse_config, parse_train_config

POPULAR, STUDENT, PAIR = "popular.yaml", "student", "pair.yaml"


def specialize(config: SpecializeConfig, out: str | Path, *, resume: bool = False) -> Trained | None:
    """Choose the popular classes, train the student on them and "other", write the pair's configuration.

    The folder then holds `popular.yaml`, the classes with their counts, `student`, the training, and
    `pair.yaml`, ready for `evaluate`, `predict` and `demo`. Killed at any moment, it goes on with `resume` to
    the same result. Of several processes all but the first return None.

    Raises:
        EbjrError: settings, data, weights and `out` are checked before anything is computed.

    Example:
        >>> from ebjr_det import load_specialize_config, specialize
        >>> changes = ["schedule.steps=4", "schedule.validate_every=2", "schedule.warmup_steps=1"]
        >>> trained = specialize(load_specialize_config("specialize_digits", changes), "special")
        >>> Path("special/pair.yaml").is_file()
        True
    """
    from ebjr_det.training.ranks import first_of_ranks

    out = Path(out)
    if first_of_ranks():  # before it begins a folder that later processes would find begun
        check_folder(out, resume)
    data = load_task(config.task).data.build_data(**dict(config.data))
    choice = _Choice.of(config, data)
    popular, folder = choice.popular, out / STUDENT
    _check_pair(pair_of(config, popular, None), data)  # before hours of training

    def prepare() -> None:
        open_training(out, config, resume, load_specialize_config)
        write_text(out / POPULAR, choice.describe())

    begun = (folder / CONFIG).is_file()
    trained = train(training_of(config, popular), folder, resume=begun, prepare=prepare, data=data)
    if trained is None:
        return None
    content = {"task": config.task} | pair_of(config, popular, trained).model_dump(exclude_defaults=True)
    write_text(out / PAIR, yaml.dump(content, Dumper=FlatDumper, sort_keys=False))
    trained = replace(trained, pair=str(out / PAIR), run_dir=str(out))
    write_text(out / SUMMARY, to_json(trained.to_dict()))
    return trained


def training_of(config: SpecializeConfig, popular: Popular) -> TrainConfig:
    """The student's training."""
    content = config.model_dump(exclude={"choose", "pair", "distill", "student"})
    content["model"] = config.student.model_dump() | {"popular": list(popular.names)}
    if not config.distill:
        content["teacher"] = None
    return parse_train_config(content)


def pair_of(config: SpecializeConfig, popular: Popular, trained: Trained | None) -> EvaluateConfig:
    """The pair, with the trained student's weights where there are any.

    Raises:
        ConfigError: `pair` has settings that no pair has.
    """
    student = config.student.model_dump(exclude_defaults=True) | {"popular": list(popular.names)}
    student |= (
        {"random_weights": True}
        if trained is None
        else {"checkpoint": trained.weights, "sha256": trained.sha256, "random_weights": False}
    )
    teacher = config.teacher.model_dump(exclude_defaults=True)
    content = {"task": config.task, "title": config.title, "student": student, "teacher": teacher}
    repeated = sorted(content.keys() & config.pair.keys() - {"title"})
    if repeated:
        raise ConfigError(f"Expected `pair` without `{repeated[0]}`, which stands beside it, got it twice.")
    return parse_config({**content, **config.pair})


def _check_pair(pair: EvaluateConfig, data: DataSet) -> None:
    """What `evaluate` would refuse only after the training."""
    from ebjr_det.inference.pair import Pair, build_models

    scoring = check_settings(pair)
    judged_on = load_task(pair.task).data.build_data(**dict(pair.data))
    if judged_on.class_names != data.class_names:
        raise ConfigError(
            f"Expected `pair.data` to have the {len(data.class_names)} classes of `data`, got "
            f"{len(judged_on.class_names)}, such as {', '.join(judged_on.class_names[:3])}."
        )
    models = build_models(pair, data, "cpu")
    check_ahead(Pair(pair, load_task(pair.task).judge(), judged_on, *models, "cpu"), scoring)


class _Choice(NamedTuple):
    """The popular classes, how often each class was seen, [classes], and in which pictures."""

    popular: Popular
    counts: FloatArray
    source: str

    @classmethod
    def of(cls, config: SpecializeConfig, data: DataSet) -> "_Choice":
        choose, names = config.choose, data.class_names
        training_counts = load_task(config.task).class_counts(data)
        if training_counts is None:
            raise ConfigError(f"Expected pictures that show classes, got a task without, `{config.task}`.")
        counts, source = training_counts.astype(np.float64), "in the training data"
        if choose.histogram is not None:
            counts, source = _recorded(Path(choose.histogram), names), "in the recorded traffic"
        if choose.top is not None:
            popular = Popular.top(choose.top, counts, names)
        else:
            popular = Popular.of(choose.classes or (), names)
        empty = next((index for index in popular.classes if not training_counts[index]), None)
        if empty is not None:
            raise ConfigError(f"Expected training data of every popular class, got none of `{names[empty]}`.")
        return cls(popular, counts, source)

    def describe(self) -> str:
        seen = {self.popular.all_names[index]: float(self.counts[index]) for index in self.popular.classes}
        content = {
            "popular": list(self.popular.names),
            "counted": self.source,
            "counts": seen,
            "share": round(float(sum(seen.values()) / self.counts.sum()), 6),
        }
        return yaml.dump(content, Dumper=FlatDumper, sort_keys=False)


def _recorded(path: Path, class_names: Sequence[str]) -> FloatArray:
    """[classes] of a histogram file, 0 of those that it leaves out."""
    histogram = load_histogram(path)
    for name, value in histogram.items():
        check_known(name, class_names, f"classes of the data in `{path}`")
        if not 0 <= value < float("inf"):
            raise ConfigError(f"Expected counts or shares from 0 in `{path}`, got {value} of `{name}`.")
    return np.array([histogram.get(name, 0.0) for name in class_names])
