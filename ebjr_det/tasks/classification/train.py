"""Training a classifier: cross-entropy with the labels, and where there is a teacher its answers too."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError
from ebjr_det.tasks.classification.augmentation import TrainingSet, build_augmentation, columns
from ebjr_det.tasks.classification.data import ImageSet, collate
from ebjr_det.tasks.classification.model import TorchClassifier
from ebjr_det.tasks.popular import Popular
from ebjr_det.training.loop import Judged, Learner
from ebjr_det.training.order import Order

JUDGED_BATCH = 256


def build_learner(
    model: TorchClassifier,
    data: ImageSet,
    validation: ImageSet | None,
    *,
    seed: int,
    augment: Mapping[str, Any],
    loss: Mapping[str, Any],
    popular: Popular | None = None,
    popular_share: float | None = None,
    teacher: TorchClassifier | None = None,
) -> Learner:
    """A training of a classifier on labelled images.

    Args:
        data, validation: with the model's classes.
        augment: see `augmentation.build_augmentation`; `loss`: `label_smoothing` of the labels, and
            `distillation` and `temperature`, the share and the softness of the teacher's answers.
        popular: where the model is specialised, which of the teacher's classes its own are.
        popular_share: how often a training picture shows a popular class; the validation counts its images
            in the same proportion.
        teacher: of all classes.

    Raises:
        ConfigError: the model is no torch module, or there are no popular or no other images.
    """
    network = model.network
    if not isinstance(network, nn.Module):
        raise ConfigError(f"Expected a torch module to train, got `{model.name}`.")
    weights, shift = None, torch.zeros(())
    if popular is not None and popular_share is not None:
        weights = popular.weights(popular_share, data.labels)
        shift = _shift(popular, popular_share, float((data.labels < popular.other).mean()))
    transforms = [model.preprocess] + ([teacher.preprocess] if teacher is not None else [])
    pictures = TrainingSet(data, build_augmentation(**augment), transforms, Order(len(data), seed, weights))
    bench = _Bench(network, loss["label_smoothing"], None)
    if teacher is not None:
        bench = _Bench(network, loss["label_smoothing"], _Distillation(teacher, popular, shift, **loss))
    judge_model = None if validation is None else _judge(validation, popular, popular_share)

    def judge(network: nn.Module) -> Mapping[str, float]:
        assert judge_model is not None
        model_of = TorchClassifier(model.name, network, model.preprocess, str(model.device))
        return judge_model(model_of).numbers

    return Learner(
        model.name,
        network,
        bench,
        pictures,
        columns,
        len(data),
        data.class_names,
        "accuracy",
        None if judge_model is None else judge,
        judge_model=judge_model,
    )


class _Bench(nn.Module):
    """A network with its loss: inputs and labels -> `loss`."""

    def __init__(self, network: nn.Module, label_smoothing: float, teacher: "_Distillation | None") -> None:
        super().__init__()
        self.network, self.label_smoothing = network, label_smoothing
        self.teacher = (teacher,)  # a tuple hides its weights from the optimiser and from `train()`

    def forward(self, images: Tensor, *others: Tensor) -> dict[str, Tensor]:
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        labels, (teacher,) = others[-1], self.teacher
        own = functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        if teacher is None:
            return {"loss": own}
        theirs = teacher(logits, others[0])
        return {
            "loss": (1 - teacher.share) * own + teacher.share * theirs,
            "label_loss": own,
            "teacher_loss": theirs,
        }


class _Distillation:
    """T² KL(teacher || student) at temperature T (Hinton et al. 2015, arXiv 1503.02531, section 2).

    For a specialised student the teacher's logit of "other" is the logsumexp of those of all classes that are
    not popular, so that its probabilities add up before they are softened: softened first, a long tail of
    impossible classes would outweigh any popular one. `shift` is added to these logits, so that the teacher
    expects popular classes as often as the training shows them.
    """

    def __init__(
        self,
        teacher: TorchClassifier,
        popular: Popular | None,
        shift: Tensor,
        distillation: float,
        temperature: float,
        **_: Any,
    ) -> None:
        self.teacher, self.popular, self.shift = teacher, popular, shift.to(teacher.device)
        self.share, self.temperature = distillation, temperature
        if isinstance(teacher.network, nn.Module):
            teacher.network.to(memory_format=torch.channels_last)

    def __call__(self, logits: Tensor, images: Tensor) -> Tensor:
        with torch.no_grad():
            theirs = self.teacher.network(images.contiguous(memory_format=torch.channels_last)).float()
            if self.popular is not None:
                theirs = _narrowed(theirs, self.popular) + self.shift
            wanted = functional.log_softmax(theirs / self.temperature, dim=1)
        found = functional.log_softmax(logits / self.temperature, dim=1)
        distance = functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        return self.temperature**2 * distance


def _shift(popular: Popular, share: float, share_of_data: float) -> Tensor:
    """[N + 1] logarithm of how much more often each class is shown than the data has it."""
    more = torch.full((popular.other + 1,), share / share_of_data)
    more[popular.other] = (1 - share) / (1 - share_of_data)
    return more.log()


def _narrowed(logits: Tensor, popular: Popular) -> Tensor:
    rest = sorted(set(range(logits.shape[1])) - set(popular.classes))
    others = logits[:, rest].logsumexp(dim=1, keepdim=True)
    return torch.cat([logits[:, list(popular.classes)], others], dim=1)


def _judge(data: ImageSet, popular: Popular | None, share: float | None) -> Callable[[Any], Judged]:
    """Accuracy on the images; of a specialised student weighted to the share, and its parts."""
    if popular is not None:
        is_popular = data.labels < popular.other
        each = popular.weights(0.5 if share is None else share, data.labels)
        weights = None if share is None else each

    def judge(model: TorchClassifier) -> Judged:
        right = _right(model, data)
        counts = np.bincount(data.labels, minlength=data.num_classes)
        found = np.bincount(data.labels, weights=right, minlength=data.num_classes)
        by_class = {data.class_names[at]: float(found[at] / counts[at]) for at in np.flatnonzero(counts)}
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
    found = []
    for at in range(0, len(data), JUDGED_BATCH):
        images = range(at, min(at + JUDGED_BATCH, len(data)))
        inputs = collate([model.preprocess(data.load(index)) for index in images])
        found.append(model(inputs).logits.values[:, 0].argmax(axis=1))
    return np.asarray(np.concatenate(found) == data.labels)
