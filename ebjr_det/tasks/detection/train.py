"""Training an EfficientDet: effdet's bench and loss, and where there is a teacher also its class logits."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.types import Model
from ebjr_det.tasks.contract import LearnerSettings
from ebjr_det.tasks.detection.augmentation import TrainingSet, build_augmentation
from ebjr_det.tasks.detection.coco.accumulate import STATS, over_classes
from ebjr_det.tasks.detection.data import DetectionSet
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision, Target
from ebjr_det.tasks.detection.networks.detector import Detector
from ebjr_det.tasks.detection.networks.efficientdet import EfficientDetector, statistics
from ebjr_det.tasks.popular import Popular
from ebjr_det.training.loop import Judged, Learner
from ebjr_det.training.order import Order

JUDGED_BATCH = 8
SHARED = ("image_size", "min_level", "max_level", "num_scales", "aspect_ratios", "anchor_scale")
"""Settings of the model's configuration that a teacher's must have too."""
CHECKED = 16  # classes at once: each is compared with all anchors
LEAST = 1.0  # objects that a batch's distillation is shared among at least


def build_learner(
    model: Model,
    data: DetectionSet,
    validation: DetectionSet | None,
    settings: LearnerSettings,
    teacher: Model | None = None,
) -> Learner:
    """A training of a detector on annotated images.

    Args:
        data, validation: with the model's classes.
        teacher: an EfficientDet of all classes with the model's inputs and anchors.

    Raises:
        ConfigError: model or teacher are no EfficientDets or see other inputs, or a `popular_share`, which
            images that show several classes cannot have.
    """
    if settings.popular_share is not None:
        raise ConfigError("Expected `popular_share` for classification alone, got it for detection.")
    if not isinstance(model, EfficientDetector):
        raise ConfigError(f"Expected `effdet/NAME` to train, got `{model.name}`.")
    distillation = None
    if teacher is not None:
        teacher = _checked_teacher(teacher, model)
        distillation = _Distillation(teacher, settings.popular, model, **settings.loss)
    side, mean = int(model.config.image_size[0]), statistics(model.config)[0]
    pictures = TrainingSet(
        data, build_augmentation(side, mean, **settings.augment), Order(len(data), settings.seed)
    )
    bench = _Bench(model, distillation)
    bench.check_targets(data.class_names)
    learner = Learner(
        model.name, model.network, bench, pictures, _columns, len(data), data.class_names,
        AveragePrecision.quality_name, outputs=model.classes.columns.tolist(),
    )  # fmt: skip
    if validation is None:
        return learner
    model_of = partial(EfficientDetector, model.name, classes=model.classes, device=str(model.device))
    judged = partial(judge, data=validation)
    return replace(learner, judge=lambda network: judged(model_of(network)).numbers, judge_model=judged)


def _checked_teacher(teacher: Model, model: EfficientDetector) -> EfficientDetector:
    """The teacher. Raises ConfigError where it is no EfficientDet or sees other inputs than the model."""
    if not isinstance(teacher, EfficientDetector):
        raise ConfigError(f"Expected `effdet/NAME` as the `teacher` of a training, got `{teacher.name}`.")
    for name in SHARED:
        if model.config[name] != teacher.config[name]:
            raise ConfigError(
                f"Expected a `teacher` with the model's `{name}`, {model.config[name]}, got "
                f"{teacher.config[name]}. Both see the same inputs."
            )
    if statistics(model.config) != statistics(teacher.config):
        raise ConfigError("Expected a `teacher` with the model's mean and standard deviation, got others.")
    return teacher


class _Bench(nn.Module):
    """effdet's bench: uint8 pictures, boxes y1 x1 y2 x2, classes of the data from 0 -> `loss`, and its parts.

    A class is taught to the output from which `ClassMap` reads it; effdet's labeler counts outputs from 1.
    """

    def __init__(self, model: EfficientDetector, distillation: "_Distillation | None") -> None:
        from effdet import DetBenchTrain

        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.bench = DetBenchTrain(model.network, create_labeler=True)
        self.register_buffer("mean", model.graph.mean)
        self.register_buffer("std", model.graph.std)
        self.classes = model.classes
        self.taught: Tensor
        self.register_buffer("taught", torch.from_numpy(model.classes.columns + 1))
        self.distillation = (distillation,)  # a tuple hides its weights from the optimiser and from `train()`

    def forward(self, pixels: Tensor, boxes: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        batch = ((pixels.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        target = {"bbox": boxes, "cls": [self.taught[labels].float() for labels in classes]}
        (distillation,) = self.distillation
        if distillation is None:
            return dict(self.bench(batch, target))
        levels: list[Sequence[Tensor]] = []  # of class logits, which effdet's bench keeps to itself
        hook = self.bench.model.register_forward_hook(lambda *call: levels.append(call[2][0]))
        losses = dict(self.bench(batch, target))
        hook.remove()
        teacher_loss = distillation(levels[0], batch, sum(map(len, boxes)))
        label_loss, share = losses.pop("loss"), distillation.share
        return {
            "loss": (1 - share) * label_loss + share * teacher_loss,
            **losses,
            "teacher_loss": teacher_loss,
        }

    def check_targets(self, class_names: Sequence[str]) -> None:
        """Raises ConfigError unless a box of each class trains the output from which that class is read.

        Each box is an anchor, so that effdet's labeler must give that anchor its class.
        """
        labeler = self.bench.anchor_labeler
        anchors = labeler.anchors.boxes
        for first in range(0, len(class_names), CHECKED):
            labels = torch.arange(first, min(first + CHECKED, len(class_names)), device=anchors.device)
            positions = torch.linspace(0, len(anchors) - 1, len(labels)).long()
            levels, *_ = labeler.label_anchors(anchors[positions], self.taught[labels].float())
            trained = torch.cat([level.flatten() for level in levels])[positions].tolist()
            for label, output in zip(labels.tolist(), trained, strict=True):
                if output < 0 or self.classes.labels[output] != label:
                    raise ConfigError(
                        f"Expected boxes of `{class_names[label]}` to train output "
                        f"{self.classes.columns[label]}, from which they are read, got output {output}."
                    )


class _Distillation:
    """Quality focal loss of the class logits to the teacher's softened scores, an object.

    sum over anchors and classes of |t - s|² BCE(s, t), t and s the sigmoids of the teacher's and the
    student's logits over the temperature (Li et al. 2020, arXiv 2006.04388, equation 5, with the teacher's
    score as the label). For a specialised student "other" has the largest logit of the classes that are not
    popular.
    """

    def __init__(
        self,
        teacher: EfficientDetector,
        popular: Popular | None,
        model: EfficientDetector,
        distillation: float,
        temperature: float,
    ) -> None:
        self.network, self.popular = teacher.network, popular
        self.columns = teacher.classes.columns.tolist()
        self.model_columns = model.classes.columns.tolist()
        self.outputs = (model.classes.outputs, teacher.classes.outputs)
        self.share, self.temperature = distillation, temperature

    def __call__(self, levels: Sequence[Tensor], batch: Tensor, objects: int) -> Tensor:
        with torch.no_grad():
            targets = self._rows(self.network(batch)[0], self.outputs[1])[..., self.columns]
            if self.popular is not None:
                other = targets[..., self.popular.unpopular].amax(dim=-1, keepdim=True)
                targets = torch.cat([targets[..., list(self.popular.classes)], other], dim=-1)
            targets = (targets / self.temperature).sigmoid()
        logits = self._rows(levels, self.outputs[0])[..., self.model_columns] / self.temperature
        weights = (targets - logits.sigmoid()).abs().square()
        losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        return (weights * losses).sum() / max(objects, LEAST)

    @staticmethod
    def _rows(levels: Sequence[Tensor], outputs: int) -> Tensor:
        """[images, anchors, outputs] of all levels."""
        return torch.cat(
            [level.permute(0, 2, 3, 1).reshape(len(level), -1, outputs).float() for level in levels], dim=1
        )


def judge(detector: Detector, data: DetectionSet) -> Judged:
    """COCO's twelve numbers of a detector, and the AP of each class that the set shows.

    Pictures that cannot be decoded are left out, where the data allows that.
    """
    answers: list[Detections] = []
    targets: list[Target] = []
    for start in range(0, len(data), JUDGED_BATCH):
        batch = range(start, min(start + JUDGED_BATCH, len(data)))
        pictures = {index: picture for index in batch if (picture := data.load_or_say(index)) is not None}
        targets += [data.target(index) for index in pictures]
        if pictures:
            answers += detector([detector.preprocess(picture) for picture in pictures.values()]).predictions
    task = AveragePrecision()
    by_class = task.by_class(task.match(answers, targets))
    numbers = dict(zip(STATS, over_classes(by_class).tolist(), strict=True))
    precisions = zip(data.class_names, by_class[:, 0].tolist(), strict=True)
    return Judged(numbers, {name: precision for name, precision in precisions if precision >= 0})


def _columns(rows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    pixels, boxes, classes = zip(*rows, strict=True)
    return torch.stack(pixels), list(boxes), list(classes)
