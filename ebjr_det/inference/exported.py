"""A pair in a folder of its own: two ONNX graphs and one JSON, read and served without torch.

`pair.json` has everything that is not in the graphs: the router and its threshold, what is done before and
after each network, the classes, and the sha256 of every other file and of itself. Any program can follow it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ebjr_det.config import RouterSection, apply_changes, parse_section
from ebjr_det.config.sections import RunSection
from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.joint import JointModel, JointTeacher, LeapTeacher
from ebjr_det.core.scores import rows_counted
from ebjr_det.core.tiers import Topology
from ebjr_det.core.types import FloatArray, Model
from ebjr_det.inference.absent import SIDES, AbsentModel
from ebjr_det.inference.export_file import (
    PAIR,
    ROUTER,
    WITHIN,
    ExportedEightBits,
    ExportedInner,
    ExportedModel,
    ExportedPair,
    GraphInEightBits,
    read_pair,
)
from ebjr_det.inference.scoring import Scoring
from ebjr_det.io.files import checksum
from ebjr_det.io.notes import say
from ebjr_det.io.third_party import check_packages
from ebjr_det.runtimes.int8 import has_instructions, open_file
from ebjr_det.runtimes.onnx import PROVIDERS, Session
from ebjr_det.runtimes.onnx_check import check_whole
from ebjr_det.runtimes.registry import Batch, Column, Network
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.contract import Classes
from ebjr_det.tasks.popular import Popular

LARGEST_SIDE = 8192


def _sides(pictures: Any, shape: Sequence[int]) -> list[tuple[object, int]]:
    """Each side of a graph's input, a number or what it calls an open one, with the one that is told."""
    return list(zip(pictures.shape[1:], shape, strict=True))


class _Graph:
    """A session that is asked for what its graph takes only."""

    invariant = Session.invariant

    def __init__(self, session: Session, exported: ExportedModel, path: Path) -> None:
        self.session: Network = session
        self.path = path
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
        """How scores come about and decide; fitted routers are looked for in the folder."""
        section, int8, front = _router_in(self.content, self.folder / ROUTER), self._int8, self.content.front
        changes: dict[str, object] = {} if int8 is None else {"threshold": int8.threshold}
        if front is not None:
            changes |= {"front": str(self.folder / front.file), "front_threshold": front.threshold}
        return section.model_copy(update=changes)

    @property
    def device(self) -> str:
        """Where the graphs run."""
        return "cpu" if self.run.device == "auto" else self.run.device

    @property
    def reference(self) -> FloatArray | None:
        """Scores of a run's pictures, where the folder keeps some."""
        scores = (self._int8 or self.content).reference
        return None if scores is None else np.array(scores, dtype=np.float64)

    @property
    def _int8(self) -> ExportedEightBits | None:
        """The threshold and the scores of a student that runs in eight bits; None where it runs in float."""
        return self.content.int8 if "student" in self.eight_bits else None

    @cached_property
    def eight_bits(self) -> dict[str, GraphInEightBits]:
        """The graphs that run in eight bits, by side; why others that are there do not is said."""
        graphs = {} if self.content.int8 is None else self.content.int8.graphs
        usable = dict[str, GraphInEightBits]()
        for side, graph in graphs.items():
            if self.device != "cpu":
                say(f"Note: the {side} runs in float: `{self.run.device}` is no CPU.")
            elif not has_instructions():
                say(f"Note: the {side} runs in float: this processor has no instructions for eight bits.")
            elif find_spec(graph.by) is None:
                say(f"Note: the {side} runs in float: {graph.by} is not installed.")
            else:
                usable[side] = graph
        return usable

    @property
    def student(self) -> ExportedModel:
        """The student's graph and what surrounds it."""
        return self.content.student

    @property
    def topology(self) -> Topology:
        """How images go along more than two models."""
        return self.teacher.topology if isinstance(self.teacher, ExportedInner) else "cascade"

    @property
    def teacher(self) -> ExportedModel | ExportedInner:
        """The teacher's graph and what surrounds it, or the pair in its place."""
        return self.content.teacher

    def build(self) -> tuple[Classes, Model, Model]:
        """The classes for answers, the student and the teacher, in ONNX Runtime on the configured device."""
        check_packages(["onnxruntime"], "onnx", "to serve an exported pair")
        device = self.device
        if device.split(":")[0] not in PROVIDERS:
            raise ConfigError(f"Expected device {' or '.join(PROVIDERS)}, got `{device}`.")
        classes = {int(key): name for key, name in self.content.classes.items()}
        named = load_task(self.task).served.name_classes(classes)
        sides = {side: getattr(self, side) for side in SIDES}
        student, teacher = (
            self._served(exported, named, device, graph=self.eight_bits.get(side))
            if side in self.sides
            else AbsentModel(exported.name)
            for side, exported in sides.items()
        )
        return named, student, teacher

    def _served(
        self,
        exported: ExportedModel | ExportedInner,
        named: Classes,
        device: str,
        within: str = WITHIN,
        graph: GraphInEightBits | None = None,
    ) -> Model:
        if isinstance(exported, ExportedInner):
            student = self._served(exported.student, named, device)
            teacher = self._served(exported.teacher, named, device, within + WITHIN)
            section = _router_in(exported, self.folder / f"{within}{ROUTER}")
            scoring = Scoring.load(self.task, section, live=True).bind(named.class_names)
            kind = LeapTeacher if exported.topology == "leap" else JointTeacher
            return kind(JointModel(student, teacher, scoring, exported.threshold))
        path, task = self.folder / (graph or exported).file, load_task(self.task)
        check_whole(path)
        session = Session(path, device)
        classes = len(named.class_names) if exported.popular is None else len(exported.popular) + 1
        try:
            network = _Graph(session, exported, path)
            if graph is not None:
                network.session = open_file(path, graph.by)
            model = task.served.build_served(exported.name, exported.around, network)
            task.served.check_served(model, network.shape, network.blank(), classes)
        except Exception as error:  # whatever wrong numbers, or a graph that fails, can raise
            raise InvalidInput(
                f"Expected `around` of `{exported.name}` in `{self.folder}` as this version writes it, got "
                f"{first_line(error)}. Export again."
            ) from error
        if exported.popular is None:
            return model
        popular = Popular.of(exported.popular, named.class_names)
        return Changed(model, partial(task.popular.widen, popular=popular, other_at=exported.other_at))


def _router_in(pair: ExportedPair | ExportedInner, file: Path) -> RouterSection:
    """A pair's router and threshold; `file` is where it has its fitted router, if it has one."""
    section = pair.router
    settings: dict[str, object] = {
        "file": None if section.file is None else str(file),
        "threshold": pair.threshold,
    }
    score, counted = str(section.score), (section.top_k, section.aggregate)
    if counted == rows_counted(score, "auto", "auto"):  # the numbers of the deciding score, of no other
        settings |= {"top_k": "auto", "aggregate": "auto"}
    return section.model_copy(update=settings)


def _files_of(model: ExportedModel | ExportedInner, within: str = WITHIN) -> dict[str, str]:
    """The sha256 of every file of a model, or of the pair in its place, by its name."""
    if isinstance(model, ExportedModel):
        return {model.file: model.sha256}
    router = {} if model.router.file is None else {f"{within}{ROUTER}": str(model.router.sha256)}
    return _files_of(model.student) | _files_of(model.teacher, within + WITHIN) | router


def load_exported(folder: Path, changes: Sequence[str] = (), sides: tuple[str, ...] = SIDES) -> Exported:
    """An exported pair, every file of it checked.

    Args:
        changes: `run.a=b` settings of how it runs; what it answers cannot be changed.
        sides: the models that are wanted; the file of the other need not be there.

    Raises:
        InvalidInput: a file that is missing, damaged, or not as it was exported.
        ConfigError: a change of anything else.
    """
    pair = read_pair(folder / PAIR)
    files = {name: sha256 for side in sides for name, sha256 in _files_of(getattr(pair, side)).items()}
    graphs = {} if pair.int8 is None else pair.int8.graphs
    files |= {graph.file: graph.sha256 for side, graph in graphs.items() if side in sides}
    if pair.router.file is not None and "student" in sides:
        files[ROUTER] = str(pair.router.sha256)
    if pair.front is not None and "student" in sides:
        files[pair.front.file] = pair.front.sha256
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
