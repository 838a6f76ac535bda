"""`specialize`: popular classes chosen, a student trained for them, and the configuration of its pair."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ebjr_det.api.train import train
from ebjr_det.config import (
    EvaluateConfig,
    SpecializeConfig,
    TrainConfig,
    dump_config,
    load_specialize_config,
    load_weights,
    parse_config,
    parse_train_config,
)
from ebjr_det.errors import ConfigError, did_you_mean
from ebjr_det.files import writable_folder, write_text
from ebjr_det.plain_yaml import FlatDumper
from ebjr_det.popular import Popular
from ebjr_det.reporting.folder import CONFIG, SUMMARY, to_json
from ebjr_det.tasks import room
from ebjr_det.types import FloatArray

POPULAR, STUDENT, PAIR = "popular.yaml", "student", "pair.yaml"


def specialize(config: SpecializeConfig, out: str | Path, *, resume: bool = False) -> dict[str, Any]:
    """Choose the popular classes, train the student on them and "other", write the pair's configuration.

    The folder then holds `popular.yaml`, the classes with their counts; `student`, the folder of the
    training; and `pair.yaml`, ready for `evaluate`, `predict` and `demo`. Killed at any moment, it goes on
    with `resume` to the same result.

    Raises:
        EbjrError: settings, data, weights and `out` are checked before anything is computed.
    """
    data = room(config.task, "data").build_data(**dict(config.data))
    counts, unit = _counts(config, data)
    popular = _choose(config, counts, data.class_names)
    pair_of(config, popular, None)  # before hours of training
    out = Path(out)
    _open_folder(out, config, resume)
    write_text(out / POPULAR, _describe(popular, counts, unit))
    folder = out / STUDENT
    trained = train(training_of(config, popular), folder, resume=(folder / CONFIG).is_file())
    if not trained:  # of several processes the first one writes
        return {}
    write_text(out / PAIR, _short(pair_of(config, popular, trained)))
    summary = {**trained, "pair": str(out / PAIR), "run_dir": str(out)}
    write_text(out / SUMMARY, to_json(summary))
    return summary


def training_of(config: SpecializeConfig, popular: Popular) -> TrainConfig:
    """The student's training."""
    content = config.model_dump(exclude={"choose", "pair", "distill", "student"})
    content["model"] = config.student.model_dump() | {"popular": list(popular.names)}
    if not config.distill:
        content["teacher"] = None
    return parse_train_config(content)


def pair_of(config: SpecializeConfig, popular: Popular, trained: dict[str, Any] | None) -> EvaluateConfig:
    """The pair, with the trained student's weights where there are any.

    Raises:
        ConfigError: `pair` has settings that no pair has.
    """
    student = config.student.model_dump(exclude_defaults=True) | {"popular": list(popular.names)}
    student |= (
        {"random_weights": True}
        if trained is None
        else {"checkpoint": trained["weights"], "sha256": trained["sha256"], "random_weights": False}
    )
    teacher = config.teacher.model_dump(exclude_defaults=True)
    own = {"task": config.task, "title": config.title, "student": student, "teacher": teacher}
    twice = sorted(own.keys() & config.pair.keys() - {"title"})
    if twice:
        raise ConfigError(f"Expected `pair` without `{twice[0]}`, which stands beside it, got it twice.")
    return parse_config({**own, **config.pair})


def _counts(config: SpecializeConfig, data: Any) -> tuple[FloatArray, str]:
    """[classes] what was seen of each, and what that is."""
    if config.choose.histogram is None:
        seen = room(config.task, "popular").class_counts(data)
        return seen.astype(np.float64), "in the training data"
    told = load_weights(config.choose.histogram)
    strange = next((name for name in told if name not in data.class_names), None)
    if strange is not None:
        hint = did_you_mean(strange, data.class_names)
        raise ConfigError(f"Expected classes of the data in the histogram, got `{strange}`. {hint}")
    if not all(0 <= value < float("inf") for value in told.values()):
        raise ConfigError(f"Expected counts or shares from 0 in `{config.choose.histogram}`, got others.")
    return np.array([told.get(name, 0.0) for name in data.class_names]), "in the recorded traffic"


def _choose(config: SpecializeConfig, counts: FloatArray, class_names: tuple[str, ...]) -> Popular:
    choose = config.choose
    if choose.top is not None:
        return Popular.top(choose.top, counts, class_names)
    popular = Popular.of(choose.classes or (), class_names)
    empty = next((index for index in popular.classes if not counts[index]), None)
    if empty is not None:
        raise ConfigError(
            f"Expected training data of every popular class, got none of `{class_names[empty]}`."
        )
    return popular


def _describe(popular: Popular, counts: FloatArray, unit: str) -> str:
    seen = {popular.all_names[index]: float(counts[index]) for index in popular.classes}
    share = sum(seen.values()) / counts.sum()
    content = {
        "popular": list(popular.names),
        "counted": unit,
        "counts": seen,
        "share": round(float(share), 6),
    }
    return yaml.dump(content, Dumper=FlatDumper, sort_keys=False)


def _short(pair: EvaluateConfig) -> str:
    """The configuration without what is as by default."""
    content = {"task": pair.task} | pair.model_dump(exclude_defaults=True)
    return yaml.dump(content, Dumper=FlatDumper, sort_keys=False)


def _open_folder(out: Path, config: SpecializeConfig, resume: bool) -> None:
    path = writable_folder(out) / CONFIG
    if not path.is_file():
        if any(not entry.name.startswith(".") for entry in out.iterdir()):
            raise ConfigError(f"Expected an empty --out, got files in `{out}`.")
        write_text(path, dump_config(config))
    elif not resume:
        raise ConfigError(f"Expected an empty --out, got a run in `{out}`. Add --resume to go on with it.")
    elif load_specialize_config(path) != config:
        raise ConfigError(f"Expected the settings of the run in `{out}`, got others. Choose another --out.")
