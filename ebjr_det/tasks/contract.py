"""What a task owes the other rooms: one typed plugin, loaded once by name.

A task says what a picture's answer is and how it is judged. Its plugin is a small class; each of its parts,
a module or any object with these members, is imported when first asked for. A part that a task lacks has a
default here, or is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ebjr_det.config import EvaluateConfig, SpecializeConfig, TrainConfig
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import RouterDecision
from ebjr_det.core.types import FloatArray, Model, Opaque, Output, PairedRun, Task
from ebjr_det.io.lettering import check_letters
from ebjr_det.io.loader import Images
from ebjr_det.tasks.options import ConvertOptions as ConvertOptions
from ebjr_det.tasks.options import FileOption as FileOption
from ebjr_det.tasks.options import Forms as Forms
from ebjr_det.tasks.options import TaskOption as TaskOption
from ebjr_det.tasks.routing import Routing
from ebjr_det.tasks.tensors import Tensors as Tensors

if TYPE_CHECKING:
    from torch import nn

    from ebjr_det.runtimes.registry import Network
    from ebjr_det.tasks.popular import Popular
    from ebjr_det.training.loop import Learner

Picture: TypeAlias = Any
"""What a task's data set loads, opaque to every other room."""
Prediction: TypeAlias = Any
"""What a task's models answer about one picture, likewise opaque."""
Scores: TypeAlias = Callable[[Output], Mapping[str, FloatArray]]
"""A student's answers -> deferral scores by name."""
Remarks: TypeAlias = dict[str, Mapping[str, int]]
"""By input file, how often something odd was left out or taken all the same."""


class Classes(Protocol):
    """The classes of a data set without its pictures."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class index."""


@runtime_checkable
class TellsFacts(Protocol):
    """A model that tells exact numbers about itself."""

    def facts(self, image: Picture) -> Mapping[str, object]:
        """Numbers and texts for the report, such as how many parameters it has."""


@runtime_checkable
class RunsAnywhere(Model, Protocol):
    """A model whose network is a graph that any runtime may run.

    Attributes:
        graph: a torch module, one batch in, a tuple of tensors out.
        run: the network, made ready by a runtime; it can be set.
    """

    graph: nn.Module
    run: Network

    def batch(self, inputs: Sequence[Opaque]) -> Opaque:
        """Preprocessed inputs as one batch of the graph."""


def facts_of(model: Model, image: Picture) -> Mapping[str, object]:
    """What a model tells about itself; nothing where it tells nothing."""
    return model.facts(image) if isinstance(model, TellsFacts) else {}


class DataSet(Images, Classes, Protocol):
    """Labelled pictures by index, with their classes."""


class Data(Protocol):
    """The part that builds data sets from the settings of a configuration."""

    @property
    def build_data(self) -> Callable[..., DataSet]:
        """The settings of `data` -> labelled pictures."""

    @property
    def build_named(self) -> Callable[..., Classes]:
        """The settings of `data` -> the classes alone, for pictures of one's own."""

    @property
    def collate(self) -> Callable[[Sequence[Opaque]], Opaque]:
        """A batch of preprocessed inputs -> what a model is called with."""


class Models(Protocol):
    """The part that builds models."""

    @property
    def build_model(self) -> Callable[..., Model]:
        """The data, or its classes, and `device` and the settings of a model -> a `types.Model` of these."""


class Replay(Protocol):
    """The part that reads two models' saved outputs."""

    @property
    def load_pair(self) -> Callable[..., PairedRun]:
        """(files by name, scores, others, popular, *, remarks, the task's own options) -> a run."""

    @property
    def class_names(self) -> Callable[..., tuple[str, ...]]:
        """Files by name -> the classes of the ground truth, by index; none where they are not told."""


class Show(Protocol):
    """The part that shows an answer to people and to programs."""

    @property
    def annotate(self) -> Callable[..., Picture]:
        """(picture, prediction, classes, least_score, *, side) -> the picture with the answer drawn on it."""

    @property
    def to_entries(self) -> Callable[[Prediction, int, Any], Iterator[Mapping[str, object]]]:
        """(prediction, image id, classes) -> entries of a COCO result file."""


class Served(Protocol):
    """The part that answers from an exported folder, without torch."""

    @property
    def build_served(self) -> Callable[[str, Mapping[str, object], Network], Model]:
        """(name, numbers of what surrounds the network, network that runs) -> a model."""

    @property
    def check_served(self) -> Callable[[Any, tuple[int, ...], Sequence[Any], int], None]:
        """Raises InvalidInput for a network whose outputs are not those of its surroundings."""

    @property
    def name_classes(self) -> Callable[[Mapping[int, str]], Classes]:
        """Category id or class index -> name, as the classes that answers want."""


class PopularClasses(Protocol):
    """The part that narrows a data set to popular classes and "other", and widens answers again."""

    @property
    def narrow(self) -> Callable[[Any, Popular], DataSet]:
        """The data set with a specialised student's classes."""

    @property
    def narrow_classes(self) -> Callable[[Any, Popular], Classes]:
        """The classes alone."""

    @property
    def widen(self) -> Callable[..., Output]:
        """(output, popular, other_at) -> a specialised student's answers among all classes."""


@dataclass(frozen=True)
class LearnerSettings:
    """What a training asks of a learner beside its model and its data.

    Attributes:
        augment: see the task's `augmentation.build_augmentation`.
        loss: of a teacher's answers `distillation` and `temperature`, of labels `label_smoothing`.
        popular: which of the teacher's classes a specialised model has, and how often pictures show them.
    """

    seed: int
    augment: Mapping[str, Any]
    loss: Mapping[str, float]
    popular: Popular | None = None
    popular_share: float | None = None


class Training(Protocol):
    """The part that builds what a training loop needs."""

    @property
    def build_learner(self) -> Callable[..., Learner]:
        """(model, data, validation data or None, `LearnerSettings`, teacher) -> a `training.loop.Learner`."""


class TaskPlugin:
    """A task as every other room sees it.

    With `name`, `judge`, `data` and `models` it is evaluated and reported; each further part gives a verb.
    """

    name: str
    evaluate_config: type[EvaluateConfig] = EvaluateConfig
    train_config: type[TrainConfig] | None = None
    specialize_config: type[SpecializeConfig] | None = None
    bootstrap = 1000
    """Resamples of a replay, where none are asked for."""
    replay_inputs: str = ""
    """What is replayed, in words."""
    replay_files: Mapping[str, FileOption] = MappingProxyType({})
    """Files by their names for `Replay.load_pair`."""
    replay_options: Mapping[str, TaskOption] = MappingProxyType({})
    """Further parameters of `Replay.load_pair`."""

    def judge(self) -> Task:
        """How answers are judged."""
        raise NotImplementedError

    @property
    def data(self) -> Data:
        """Data sets by name."""
        raise NotImplementedError

    @property
    def models(self) -> Models:
        """Models by name."""
        raise NotImplementedError

    @property
    def routing(self) -> Routing:
        """Deferral scores of the task's own, and fitted routers."""
        return Routing()

    @property
    def replay(self) -> Replay:
        """Two models' saved outputs."""
        self._lacks("replayed from files")

    @property
    def forms(self) -> Forms:
        """Sets and results in other tools' forms."""
        self._lacks("converted")

    @property
    def show(self) -> Show:
        """Answers drawn and written."""
        self._lacks("shown")

    @property
    def served(self) -> Served:
        """Answers from an exported folder."""
        self._lacks("exported")

    @property
    def tensors(self) -> Tensors:
        """Answers as named tensors."""
        self._lacks("served")

    @property
    def popular(self) -> PopularClasses:
        """Students of popular classes."""
        self._lacks("specialised")

    @property
    def training(self) -> Training:
        """Learners of networks."""
        self._lacks("trained")

    def pseudo_targets(
        self, student: Output, teacher: Output, classes: int, image_ids: Sequence[str]
    ) -> Sequence[Opaque]:
        """What both models' answers are judged by for want of labels; draws hang on the image's id."""
        self._lacks("judged without labels")

    def class_counts(self, data: Any) -> NDArray[np.intp] | None:
        """[classes] how often a data set shows each; None where pictures have no classes."""
        return None

    def check_artifacts(self) -> None:
        """Raise ConfigError where this machine lacks what `write_artifacts` needs: the font of a gallery."""
        if type(self).write_gallery is not TaskPlugin.write_gallery:
            check_letters()

    def write_artifacts(
        self, folder: Path, data: Any, run: PairedRun, reported: PairedRun, decision: RouterDecision,
        defer: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Leave files of all images of `run`, and a gallery of `reported` ones where labels judge."""
        if not run.estimated:
            self.write_gallery(folder, data, reported, decision)

    def replay_pictures(self, files: Mapping[str, Any], folder: Path, image_ids: Sequence[str]) -> Any:
        """Pictures of replayed answers, for `write_gallery`."""
        self._lacks("shown beside their pictures")

    def write_gallery(self, folder: Path, data: Any, reported: PairedRun, decision: RouterDecision) -> None:
        """Leave a gallery of reported images beside a report; `data` loads them by index."""

    def _lacks(self, verb: str) -> NoReturn:
        raise ConfigError(f"Expected a task whose models can be {verb}, got `{self.name}`, which cannot.")
