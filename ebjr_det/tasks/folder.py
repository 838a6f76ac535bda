"""A task that is a folder: its parts are modules there, each imported when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast

from ebjr_det.tasks import contract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ebjr_det.core.router import RouterDecision
    from ebjr_det.core.types import Opaque, Output, PairedRun
    from ebjr_det.io.memory import Source

Kind = TypeVar("Kind", covariant=True)


class Part(Generic[Kind]):
    """A module of a task's folder, as a member of its plugin."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __get__(self, plugin: FolderPlugin, owner: type[FolderPlugin]) -> Kind:
        return cast(Kind, import_module(f"{plugin.folder}.{self.module}"))


class Artifacts(Protocol):
    """The part that leaves pictures beside a report."""

    def write_gallery(self, folder: Path, data: Any, run: PairedRun, decision: RouterDecision, /) -> None:
        """Pictures with both models' answers."""

    def pictures_of(self, files: Mapping[str, Source], folder: Path, image_ids: Sequence[str], /) -> object:
        """Pictures of replayed answers, by index."""


class Pseudo(Protocol):
    """The part that judges without labels."""

    def targets(
        self, student: Output, teacher: Output, classes: int, image_ids: Sequence[str], /
    ) -> Sequence[Opaque]:
        """What both models' answers are judged by."""


class Counts(contract.PopularClasses, Protocol):
    """The part of popular classes, which also counts classes."""

    def class_counts(self, data: Any, /) -> NDArray[np.intp]:
        """[classes] how often a data set shows each."""


Parts: TypeAlias = tuple[
    contract.Data, contract.Models, contract.Replay, contract.Show, contract.Served, contract.Tensors, Counts,
    contract.Training, Artifacts, Pseudo,
]  # fmt: skip
"""The modules of a folder in this order; where a plugin names them so, a type checker compares them."""


class FolderPlugin(contract.TaskPlugin):
    """A plugin whose parts are the modules of `folder`, a package."""

    folder: str
    data = Part[contract.Data]("data")
    models = Part[contract.Models]("model")
    replay = Part[contract.Replay]("replay")
    show = Part[contract.Show]("show")
    served = Part[contract.Served]("served")
    tensors = Part[contract.Tensors]("tensors")
    popular = Part[Counts]("popular")
    training = Part[contract.Training]("train")
    artifacts = Part[Artifacts]("artifacts")
    pseudo = Part[Pseudo]("pseudo")

    def class_counts(self, data: Any) -> NDArray[np.intp]:
        """How often a data set shows each class, by its labels."""
        return self.popular.class_counts(data)

    def replay_pictures(self, files: Mapping[str, Source], folder: Path, image_ids: Sequence[str]) -> object:
        """Pictures that the files or their ids name."""
        return self.artifacts.pictures_of(files, folder, image_ids)

    def write_gallery(self, folder: Path, data: Any, reported: PairedRun, decision: RouterDecision) -> None:
        """Labels and both models' answers side by side."""
        self.artifacts.write_gallery(folder, data, reported, decision)

    def pseudo_targets(
        self, student: Output, teacher: Output, classes: int, image_ids: Sequence[str]
    ) -> Sequence[Opaque]:
        """What the task's `pseudo` draws from both models' answers."""
        return self.pseudo.targets(student, teacher, classes, image_ids)
