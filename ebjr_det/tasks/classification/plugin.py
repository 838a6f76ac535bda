"""The classification task: a picture's answer is a vector of class logits."""

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ebjr_det.tasks import contract
from ebjr_det.tasks.classification import settings
from ebjr_det.tasks.routing import Routing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ebjr_det.core.router import RouterDecision
    from ebjr_det.core.types import FloatArray, Output, PairedRun
    from ebjr_det.io.memory import Source
    from ebjr_det.tasks.classification.metric import Accuracy


class Classification(contract.TaskPlugin):
    """Labelled pictures, judged by top-1 accuracy."""

    name = "classification"
    evaluate_config = settings.ClassificationConfig
    train_config = settings.ClassificationTrainConfig
    specialize_config = settings.SpecializeClassifierConfig

    replay_inputs = "two classifiers' logits, and the labels where there are any"
    replay_files = MappingProxyType(
        {
            "student": contract.FileOption("--student-logits", ".npy, or .npz with key `logits`."),
            "teacher": contract.FileOption("--teacher-logits", ".npy, or .npz with key `logits`."),
            "labels": contract.FileOption(
                "--labels",
                ".npy, or .npz with key `labels`. Without them all qualities are estimated from both models.",
                optional=True,
            ),
        }
    )

    def judge(self) -> "Accuracy":
        """Judge by top-1 accuracy."""
        from ebjr_det.tasks.classification.metric import Accuracy

        return Accuracy()

    @property
    def data(self) -> contract.Data:
        """CIFAR, image folders, digits."""
        from ebjr_det.tasks.classification import data

        return data

    @property
    def models(self) -> contract.Models:
        """CIFAR's networks, timm, torchvision, callables."""
        from ebjr_det.tasks.classification import model

        return model

    @property
    def routing(self) -> Routing:
        """A forest on the scores of logits."""
        from ebjr_det.tasks.classification.router import ClassificationRouting

        return ClassificationRouting()

    @property
    def replay(self) -> contract.Replay:
        """Saved logits and labels."""
        from ebjr_det.tasks.classification import replay

        return replay

    @property
    def show(self) -> contract.Show:
        """The class under the picture."""
        from ebjr_det.tasks.classification import show

        return show

    @property
    def served(self) -> contract.Served:
        """A network that gives logits."""
        from ebjr_det.tasks.classification import served

        return served

    @property
    def tensors(self) -> contract.Tensors:
        """Logits, and the likeliest class."""
        from ebjr_det.tasks.classification import tensors

        return tensors

    @property
    def popular(self) -> contract.PopularClasses:
        """Logits of popular classes and "other"."""
        from ebjr_det.tasks.classification import popular

        return popular

    @property
    def training(self) -> contract.Training:
        """Cross-entropy and distillation."""
        from ebjr_det.tasks.classification import train

        return train

    def class_counts(self, data: Any) -> "NDArray[np.intp]":
        """Images of each class."""
        from ebjr_det.tasks.classification.popular import class_counts

        return class_counts(data)

    def replay_pictures(self, files: "Mapping[str, Source]", folder: Path, image_ids: "Sequence[str]") -> Any:
        """Pictures whose paths are the ids."""
        from ebjr_det.tasks.classification.artifacts import pictures_of

        return pictures_of(files, folder, image_ids)

    def write_gallery(
        self, folder: Path, data: Any, reported: "PairedRun", decision: "RouterDecision"
    ) -> None:
        """Pictures under both models' answers."""
        from ebjr_det.tasks.classification.artifacts import write_gallery

        write_gallery(folder, data, reported, decision)

    def pseudo_targets(
        self, student: "Output", teacher: "Output", classes: int, image_ids: "Sequence[str]"
    ) -> "list[FloatArray]":
        """How likely each class is, by both models."""
        from ebjr_det.tasks.classification import pseudo

        return pseudo.targets(student, teacher, classes, image_ids)
