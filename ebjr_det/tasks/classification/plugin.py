"""The classification task: a picture's answer is a vector of class logits."""

from types import MappingProxyType
from typing import TYPE_CHECKING

from ebjr_det.tasks import contract
from ebjr_det.tasks.classification import settings
from ebjr_det.tasks.folder import FolderPlugin, Parts
from ebjr_det.tasks.routing import Routing

if TYPE_CHECKING:
    from ebjr_det.tasks.classification.metric import Accuracy

if TYPE_CHECKING:  # whether the modules are what `FolderPlugin` takes them for
    from ebjr_det.tasks.classification import (  # noqa: I001
        artifacts, data, model, popular, pseudo, replay, served, show, tensors, train,
    )  # fmt: skip

    PARTS: Parts = (data, model, replay, show, served, tensors, popular, train, artifacts, pseudo)


class Classification(FolderPlugin):
    """Labelled pictures, judged by top-1 accuracy."""

    name, folder = "classification", "ebjr_det.tasks.classification"
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
    def routing(self) -> Routing:
        """A forest on the scores of logits."""
        from ebjr_det.tasks.classification.router import ClassificationRouting

        return ClassificationRouting()
