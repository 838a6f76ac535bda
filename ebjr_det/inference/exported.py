"""A pair in a folder of its own: two ONNX graphs and one JSON, read and served without torch.

`pair.json` has everything that is not in the graphs: the router and its threshold, what is done before and
after each network, the classes, and the sha256 of every other file and of itself. Any program can follow it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from ebjr_det.config import BaseSection, RouterSection, apply_changes, parse_section
from ebjr_det.config.sections import RunSection
from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.scores import rows_counted
from ebjr_det.core.types import FloatArray, Model
from ebjr_det.inference.absent import SIDES, AbsentModel
from ebjr_det.io.files import checksum, existing_file, write_text
from ebjr_det.io.third_party import first_fault, install_hint
from ebjr_det.runtimes.onnx import PROVIDERS, Session
from ebjr_det.runtimes.onnx_check import check_whole
from ebjr_det.runtimes.registry import Batch, Column
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.contract import Classes
from ebjr_det.tasks.popular import Popular

PAIR, ROUTER = "pair.json", "router.safetensors"
VERSION: Literal[2] = 2
"""Of the format that is written; version 1 had no reference scores."""
SHA256 = r"^[0-9a-f]{64}$"
SIGNATURE = {"version", "task", "router", "threshold", "student", "teacher", "sha256"}
"""What every `pair.json` has, by which one is known."""
LARGEST = 2**24
"""Bytes of a `pair.json` at most; one of ten thousand classes has less than one million."""
LARGEST_SIDE = 8192
LARGEST_REFERENCE = 10_000
"""Reference scores at most."""


class ExportedModel(BaseSection):
    """One network and what surrounds it.

    Attributes:
        file: the ONNX graph, in the same folder; `sha256`: of it.
        inputs: name, type and shape of its input; the first number is the batch, of any size.
        outputs: names of its outputs, in order; see the task's `around` for their shapes.
        around: what is done before and after it, as plain numbers; see `around.Surroundings`.
        macs: multiply-adds an image.
        popular: the classes that a specialised student tells apart, and `other_at` of a detector.
    """

    name: str
    file: str = Field(pattern=r"^[\w-]+\.onnx$")
    sha256: str = Field(pattern=SHA256)
    inputs: dict[str, Any]
    outputs: list[str]
    around: dict[str, object]
    macs: float
    popular: list[int | str] | None = None
    other_at: float | None = None


class ExportedPair(BaseSection):
    """The content of `pair.json`, but for its own checksum.

    Attributes:
        classes: category id (detection) or class index -> name, in the order of class indices.
        threshold: defer where score > threshold.
        reference: scores of a run's pictures, rising, where no router has those of its fit; so that a share
            of pictures can be asked for.
    """

    version: Literal[1, 2]
    title: str
    task: Literal["classification", "detection"]
    classes: dict[Annotated[str, Field(pattern=r"^-?[0-9]{1,4000}$")], str] = Field(min_length=1)
    router: RouterSection
    threshold: float
    reference: list[float] | None = Field(None, min_length=1, max_length=LARGEST_REFERENCE)
    student: ExportedModel
    teacher: ExportedModel
    run: dict[str, object]
    made_with: dict[str, object]

    @model_validator(mode="after")
    def _teacher_knows_all(self) -> "ExportedPair":
        if self.teacher.popular is not None:
            raise ValueError("a teacher of all classes, got one with `popular` classes")
        return self


def _sides(pictures: Any, shape: Sequence[int]) -> list[tuple[object, int]]:
    """Each side of a graph's input, a number or what it calls an open one, with the one that is told."""
    return list(zip(pictures.shape[1:], shape, strict=True))


class _Graph:
    """A session that is asked for what its graph takes only."""

    invariant = Session.invariant

    def __init__(self, session: Session, exported: ExportedModel, path: Path) -> None:
        self.session, self.path = session, path
        (pictures,), outputs = session.session.get_inputs(), session.session.get_outputs()
        names = [pictures.name, *(output.name for output in outputs)]
        shape, self.dtype = exported.inputs["shape"][1:], np.dtype(exported.inputs["type"])
        self.shape = session.shape = tuple(shape)
        fits = all(type(side) is int and 0 < side <= LARGEST_SIDE for side in shape)
        sound = all(
            graph in (side, None) or isinstance(graph, str) for graph, side in _sides(pictures, shape)
        )
        if not (fits and sound) or names != [exported.inputs["name"], *exported.outputs]:
            raise InvalidInput("Expected inputs and outputs as they are told, got other ones")

    def __call__(self, batch: Batch) -> tuple[Column, ...]:
        """Raises InvalidInput for pictures of another size than the graph's."""
        if batch.shape[1:] != self.shape:
            raise InvalidInput(
                f"Expected pictures of {_size(self.shape)} for `{self.path}`, got {_size(batch.shape[1:])}. "
                "Its preprocessing resizes none; resize them first."
            )
        return self.session(np.asarray(batch, dtype=self.dtype))

    def blank(self) -> tuple[Column, ...]:
        """The outputs for one empty input."""
        return self.session(np.zeros((1, *self.shape), self.dtype))


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in reversed(shape[1:])) + f" in {shape[0]} channels"


@dataclass(frozen=True)
class Exported:
    """An exported folder whose files are as they were written; has the settings that live verbs ask for.

    Attributes:
        sides: the models whose files are here and are loaded.
    """

    folder: Path
    content: ExportedPair
    run: RunSection
    sides: tuple[str, ...] = SIDES

    @property
    def task(self) -> str:
        """The task's name."""
        return self.content.task

    @property
    def router(self) -> RouterSection:
        """How scores come about and decide; a fitted router is looked for in the folder."""
        section = self.content.router
        file = None if section.file is None else str(self.folder / ROUTER)
        settings: dict[str, object] = {"file": file, "threshold": self.content.threshold}
        score, counted = str(section.score), (section.top_k, section.aggregate)
        if counted == rows_counted(score, "auto", "auto"):  # the numbers of the deciding score, of no other
            settings |= {"top_k": "auto", "aggregate": "auto"}
        return section.model_copy(update=settings)

    @property
    def reference(self) -> FloatArray | None:
        """Scores of a run's pictures, where the folder keeps some."""
        scores = self.content.reference
        return None if scores is None else np.array(scores, dtype=np.float64)

    @property
    def student(self) -> ExportedModel:
        """The student's graph and what surrounds it."""
        return self.content.student

    @property
    def teacher(self) -> ExportedModel:
        """The teacher's graph and what surrounds it."""
        return self.content.teacher

    def build(self) -> tuple[Classes, Model, Model]:
        """The classes for answers, the student and the teacher, in ONNX Runtime on the configured device."""
        if find_spec("onnxruntime") is None:
            raise ConfigError(
                "Expected onnxruntime to serve an exported pair, got none. Install it: "
                f"{install_hint('onnx')}."
            )
        device = "cpu" if self.run.device == "auto" else self.run.device
        if device.split(":")[0] not in PROVIDERS:
            raise ConfigError(f"Expected device {' or '.join(PROVIDERS)}, got `{device}`.")
        classes = {int(key): name for key, name in self.content.classes.items()}
        named = load_task(self.task).served.name_classes(classes)
        student, teacher = (self._served(side, getattr(self, side), named, device) for side in SIDES)
        return named, student, teacher

    def _served(self, side: str, exported: ExportedModel, named: Classes, device: str) -> Model:
        if side not in self.sides:
            return AbsentModel(exported.name)
        path, task = self.folder / exported.file, load_task(self.task)
        check_whole(path)
        session = Session(path, device)
        classes = len(named.class_names) if exported.popular is None else len(exported.popular) + 1
        try:
            graph = _Graph(session, exported, path)
            model = task.served.build_served(exported.name, exported.around, graph)
            task.served.check_served(model, graph.shape, graph.blank(), classes)
        except Exception as error:  # whatever wrong numbers, or a graph that fails, can raise
            raise InvalidInput(
                f"Expected `around` of `{exported.name}` in `{self.folder}` as this version writes it, got "
                f"{first_line(error)}. Export again."
            ) from error
        if exported.popular is None:
            return model
        popular = Popular.of(exported.popular, named.class_names)
        return Changed(model, partial(task.popular.widen, popular=popular, other_at=exported.other_at))


def is_exported(path: Path) -> bool:
    """Whether a folder holds an exported pair."""
    return (path / PAIR).is_file()


def tells_pair(path: Path) -> bool:
    """Whether a file is the `pair.json` of an export, of whatever version and with whatever changes."""
    try:
        if path.stat().st_size > LARGEST:
            return False
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= SIGNATURE


def write_pair(pair: ExportedPair, folder: Path) -> None:
    """Write `pair.json`, its own checksum last; the other files are there already."""
    content = pair.model_dump()
    content["sha256"] = _digest(content)
    write_text(folder / PAIR, json.dumps(content, indent=2, allow_nan=False) + "\n")


def load_exported(folder: Path, changes: Sequence[str] = (), sides: tuple[str, ...] = SIDES) -> Exported:
    """An exported pair, every file of it checked.

    Args:
        changes: `run.a=b` settings of how it runs; what it answers cannot be changed.
        sides: the models that are wanted; the file of the other need not be there.

    Raises:
        InvalidInput: a file that is missing, damaged, or not as it was exported.
        ConfigError: a change of anything else.
    """
    pair = _read_pair(folder / PAIR)
    models: list[ExportedModel] = [getattr(pair, side) for side in sides]
    files = {model.file: model.sha256 for model in models}
    if pair.router.file is not None and "student" in sides:
        files[ROUTER] = str(pair.router.sha256)
    for name, sha256 in files.items():
        if checksum(folder / name) != sha256:
            raise InvalidInput(
                f"Expected `{folder / name}` as it was exported, got a changed file. Export again."
            )
    run: dict[str, Any] = {"run": dict(pair.run)}
    apply_changes(run, changes)
    stray = next((key for key in run if key != "run"), None)
    if stray is not None:
        raise ConfigError(f"Expected changes of `run` only for an exported pair, got one of `{stray}`.")
    kind: type[RunSection] = type(load_task(pair.task).evaluate_config.model_fields["run"].default)
    return Exported(folder, pair, parse_section(kind, run["run"]), sides)


def _read_pair(path: Path) -> ExportedPair:
    if existing_file(path, "an exported pair").stat().st_size > LARGEST:
        raise InvalidInput(f"Expected an exported pair in `{path}`, got more than {LARGEST} bytes.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("version") not in (1, VERSION):
            raise ValueError(f"no JSON object of version 1 or {VERSION}")
        sha256 = content.pop("sha256", None)
        pair, unchanged = ExportedPair.model_validate(content), _digest(content) == sha256
    except ValidationError as error:
        raise InvalidInput(f"Expected an exported pair in `{path}`, got {first_fault(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"Expected an exported pair in `{path}`, got: {first_line(error)}. Export again."
        ) from error
    if not unchanged:
        raise InvalidInput(
            f"Expected `{path}` as it was exported, got a changed file. Export again; a threshold can be "
            "given as --threshold."
        )
    return pair


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
