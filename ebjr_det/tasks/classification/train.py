"""Training a classifier: cross-entropy with the labels, and where there is a teacher its answers too."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError
from ebjr_det.tasks.classification.augmentation import TrainingSet, build_augmentation, columns
from ebjr_det.tasks.classification.data import ImageSet, collate
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.model import TorchClassifier
from ebjr_det.tasks.contract import LearnerSettings
from ebjr_det.tasks.popular import Popular
from ebjr_det.training.loop import Judged, Learner
from ebjr_det.training.order import Order

JUDGED_BATCH = 256


def build_learner(
    model: TorchClassifier,
    data: ImageSet,
    validation: ImageSet | None,
    settings: LearnerSettings,
    teacher: TorchClassifier | None = None,
) -> Learner:
    """A training of a classifier on labelled images; `data` and `validation` have the model's classes.

    Raises:
        ConfigError: the model is no torch module, or there are no popular or no other images.
    """
    network = model.network
    if not isinstance(network, nn.Module):
        raise ConfigError(f"Expected a torch module to train, got `{model.name}`.")
    popular, share = settings.popular, settings.popular_share
    weights, shift = None, torch.zeros(())
    if popular is not None and share is not None:
        weights = popular.weights(share, data.labels)
        shift = _shift(popular, share, float((data.labels < popular.other).mean()))
    distillation = None if teacher is None else _Distillation(teacher, popular, shift, settings.loss)
    transforms = [model.preprocess] + ([teacher.preprocess] if teacher is not None else [])
    order = Order(len(data), settings.seed, weights)
    pictures = TrainingSet(data, build_augmentation(**settings.augment), transforms, order)
    bench = _Bench(network, settings.loss["label_smoothing"], distillation)
    learner = Learner(
        model.name, network, bench, pictures, columns, len(data), data.class_names, Accuracy.quality_name
    )
    if validation is None:
        return learner
    judge = _judge(validation, popular, share)
    model_of = partial(TorchClassifier, model.name, preprocess=model.preprocess, device=str(model.device))
    return replace(learner, judge=lambda network: judge(model_of(network)).numbers, judge_model=judge)


class _Bench(nn.Module):
    """A network with its loss: inputs and labels -> `loss`."""

    def __init__(self, network: nn.Module, label_smoothing: float, teacher: "_Distillation | None") -> None:
        super().__init__()
        self.network, self.label_smoothing = network, label_smoothing
        self.teacher = (teacher,)  # a tuple hides its weights from the optimiser and from `train()`

    def forward(self, images: Tensor, *columns: Tensor) -> dict[str, Tensor]:
        """`columns`: the teacher's images where there is a teacher, and the labels."""
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        (teacher,) = self.teacher
        label_loss = functional.cross_entropy(logits, columns[-1], label_smoothing=self.label_smoothing)
        if teacher is None:
            return {"loss": label_loss}
        teacher_loss = teacher(logits, columns[0])
        loss = (1 - teacher.share) * label_loss + teacher.share * teacher_loss
        return {"loss": loss, "label_loss": label_loss, "teacher_loss": teacher_loss}


class _Distillation:
    """T² KL(teacher || student) at temperature T (Hinton et al. 2015, arXiv 1503.02531, section 2).

    For a specialised student the teacher's logit of "other" is the logsumexp of those of all classes that are
    not popular, so that its probabilities add up before they are softened: softened first, a long tail of
    impossible classes would outweigh any popular one. `shift` is added to these logits, so that the teacher
    expects popular classes as often as the training shows them.
    """

    def __init__(
        self, teacher: TorchClassifier, popular: Popular | None, shift: Tensor, loss: Mapping[str, float]
    ) -> None:
        self.teacher, self.popular, self.shift = teacher, popular, shift.to(teacher.device)
        self.share, self.temperature = loss["distillation"], loss["temperature"]
        if isinstance(teacher.network, nn.Module):
            teacher.network.to(memory_format=torch.channels_last)

    def __call__(self, logits: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            targets = self.teacher.network(images.contiguous(memory_format=torch.channels_last)).float()
            if self.popular is not None:
                other = targets[:, self.popular.unpopular].logsumexp(dim=1, keepdim=True)
                targets = torch.cat([targets[:, list(self.popular.classes)], other], dim=1) + self.shift
            targets = functional.log_softmax(targets / self.temperature, dim=1)
        answers = functional.log_softmax(logits / self.temperature, dim=1)
        distance = functional.kl_div(answers, targets, reduction="batchmean", log_target=True)
        return torch.as_tensor(self.temperature**2 * distance)


def _shift(popular: Popular, share: float, share_of_data: float) -> Tensor:
    """[N + 1] logarithm of how much more often each class is shown than the data has it."""
    ratios = torch.full((popular.other + 1,), share / share_of_data)
    ratios[popular.other] = (1 - share) / (1 - share_of_data)
    return ratios.log()


def _judge(
    data: ImageSet, popular: Popular | None, share: float | None
) -> Callable[[TorchClassifier], Judged]:
    """Accuracy on the images; of a specialised student weighted to the share, and its parts."""
    if popular is not None:
        is_popular = data.labels < popular.other
        # Also without a share, since it checks that both are there.
        balanced = popular.weights(0.5 if share is None else share, data.labels)
        weights = None if share is None else balanced

    def judge(model: TorchClassifier) -> Judged:
        right = _right(model, data)
        counts = np.bincount(data.labels, minlength=data.num_classes)
        hits = np.bincount(data.labels, weights=right, minlength=data.num_classes)
        by_class = {data.class_names[k]: float(hits[k] / counts[k]) for k in np.flatnonzero(counts)}
        if popular is None:
            return Judged({"accuracy": float(right.mean())}, by_class)
        numbers = {
            "accuracy": float(np.average(right, weights=weights)),
            "popular": float(right[is_popular].mean()),
            "other": float(right[~is_popular].mean()),
        }
        return Judged(numbers, by_class)

    return judge


def _right(model: TorchClassifier, data: ImageSet) -> NDArray[np.bool_]:
    answers = []
    for start in range(0, len(data), JUDGED_BATCH):
        images = range(start, min(start + JUDGED_BATCH, len(data)))
        inputs = collate([model.preprocess(data.load(index)) for index in images])
        answers.append(model(inputs).logits.values[:, 0].argmax(axis=1))
    return np.asarray(np.concatenate(answers) == data.labels)
