"""`init`: a configuration to begin with, every setting in it with its meaning."""

from pathlib import Path

from ebjr_det.api.schema import section_of, verb_of
from ebjr_det.config import commented
from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.files import write_text
from ebjr_det.tasks import TASKS

FOLDERS = {"dataset": "image_folder", "root": "data/mine"}
BOXES = {"dataset": "coco", "images": "data/mine/images"}
TARGET = {"target": {"kind": "max_drop", "value": 0.01}}
SMALL: dict[str, dict[str, object]] = {
    "detection": {"arch": "effdet/tf_efficientdet_d0"},
    "classification": {"arch": "timm/mobilenetv3_small_100"},
}
LARGE: dict[str, dict[str, object]] = {
    "detection": {"arch": "effdet/tf_efficientdet_d4"},
    "classification": {"arch": "timm/convnext_tiny"},
}
"""A student and a teacher to begin with, by task."""
INITIAL: dict[str, dict[str, object]] = {
    "detection": {"initial": "tf_efficientdet_d0"},
    "classification": {},
}
"""Weights that a training starts from."""


def _data(task: str, split: str) -> dict[str, str]:
    if task == "detection":
        return BOXES | {"annotations": f"data/mine/{split}.json"}
    return FOLDERS | {"split": split}


def _pair(task: str) -> dict[str, object]:
    return {
        "title": "My pair on my pictures",
        "task": task,
        "data": _data(task, "test"),
        "student": SMALL[task] | {"checkpoint": "runs/student/weights.safetensors"},
        "teacher": LARGE[task] | {"checkpoint": "runs/teacher/weights.safetensors"},
        "router": TARGET,
    }


def _training(task: str) -> dict[str, object]:
    return {
        "title": "My student",
        "task": task,
        "data": _data(task, "train"),
        "validation": _data(task, "val"),
        **INITIAL[task],
        "model": SMALL[task],
        "schedule": {"epochs": 50, "batch_size": 16},
    }


def _specialisation(task: str) -> dict[str, object]:
    training = _training(task)
    student = training.pop("model")
    pair = _pair(task)
    return training | {
        "title": "My student of popular classes",
        "popular_share": 0.7,
        "choose": {"top": 10},
        "student": student,
        "teacher": pair["teacher"],
        "pair": {key: pair[key] for key in ("title", "data", "router")},
    }


HEAD = """\
# Settings of `ebjr-det {verb}`. Change what is stated; a line that begins with # and no space is a
# setting that is left at its default.

"""
TRAININGS = {"train": _training, "specialize": _specialisation}


def first_settings(kind: str, task: str | None = None) -> str:
    """A configuration as YAML that loads as it is: what one states, and every other setting as a comment.

    Args:
        kind: one of `names.kinds()`.
        task: of a training, by default detection.

    Raises:
        ConfigError: see `schema.section_of`.
    """
    section = section_of(kind, task)
    values = _pair(kind) if kind in TASKS else TRAININGS[kind](task or "detection")
    return HEAD.format(verb=verb_of(kind)) + commented(section, values, defaults=True)


def init(kind: str, path: Path, task: str | None = None) -> Path:
    """Write a configuration to begin with.

    Raises:
        InvalidInput: a file is there, which is kept. ConfigError: see `first_settings`.
    """
    text = first_settings(kind, task)
    if path.exists():
        raise InvalidInput(f"Expected a new file, got `{path}`, which is there. Name another as --out.")
    write_text(path, text)
    return path
