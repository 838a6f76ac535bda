"""A configured pair at work: data, student and teacher built, run, costed and timed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ebjr_det.config import EvaluateConfig, ModelSection
from ebjr_det.config.nesting import NESTED
from ebjr_det.config.tiers import tiers_of, with_tiers
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.joint import JointModel, JointOutput, ScoreFunction
from ebjr_det.core.router import RouterDecision, decide
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import Model, Opaque, Output, PairedRun, Task
from ebjr_det.inference.absent import SIDES, AbsentModel
from ebjr_det.inference.answers import OnPictures, answers_to, on_pictures, sample_answers
from ebjr_det.inference.calibration_part import CalibrationPart
from ebjr_det.inference.in_memory import NO_OBJECTS, Objects, checked_model
from ebjr_det.inference.latency import Latency, measure_decision, measure_latency, stratified
from ebjr_det.inference.nested import build_nested, collated, digest_of, nested_pair
from ebjr_det.inference.offline import Batch, Recorder, ScoresFunction, run_pair
from ebjr_det.inference.ready import make_ready_on
from ebjr_det.io.environment import device_name
from ebjr_det.io.load import Load, Meter
from ebjr_det.io.loader import batches_from
from ebjr_det.io.records import PartStore
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import Changed
from ebjr_det.tasks.contract import Classes, DataSet, TaskPlugin
from ebjr_det.tasks.popular import Popular
from ebjr_det.tasks.weights import brought_digest


@dataclass(frozen=True)
class Pair:
    """Student, teacher and the images they are judged on.

    Attributes:
        student, teacher: `types.Model`s; those of this package also tell their exact `facts(image)`.
        fraction: of the images, that choose for several pairs; 0 where the settings alone say it.
    """

    config: EvaluateConfig
    task: Task
    data: DataSet
    student: Model
    teacher: Model
    device: str
    fraction: float = 0

    @classmethod
    def build(cls, config: EvaluateConfig, objects: Objects = NO_OBJECTS, fraction: float = 0) -> "Pair":
        """All that a configuration names, but for what is there as `objects`. Raises EbjrError for faults."""
        device, data = resolve_device(config.run.device), objects.data
        if data is None:
            data = load_task(config.task).data.build_data(**dict(config.data))
        config = with_checksums(config)
        student, teacher = build_models(config, data, device, objects)
        for model in (student, teacher) if objects != NO_OBJECTS else ():
            answers_to(model, data, range(min(1, len(data))), 1)  # refused before a folder is opened
        part = CalibrationPart(config, data, fraction, reported=True)
        config, task = make_ready_on(part, (student, teacher), device), load_task(config.task).judge()
        return cls(config, task, data, student, teacher, device, fraction)

    def beside(self, config: EvaluateConfig) -> "Pair":
        """The pair of another student with this teacher, on these data. Raises EbjrError for faults."""
        student, absent = build_models(config, self.data, self.device, sides=("student",))
        config = make_ready_on(replace(self.part, config=config), (student, absent), self.device)
        return replace(self, config=config, student=student)

    @property
    def part(self) -> CalibrationPart:
        """The images that choose."""
        return CalibrationPart(self.config, self.data, self.fraction, reported=True)

    @property
    def plugin(self) -> TaskPlugin:
        """What the task's own parts are."""
        return load_task(self.config.task)

    @property
    def popular(self) -> Popular | None:
        """The classes that a specialised student tells apart."""
        return popular_of(self.config.student, self.data)

    def run(self, scores: ScoresFunction, parts: PartStore) -> PairedRun:
        """Run both models on all images; continues from `parts`."""
        seconds = self.config.run.flush_seconds
        return run_pair(
            self.recorder(scores), self.batches_after, len(self.data), parts, flush_seconds=seconds
        )

    def recorder(self, scores: ScoresFunction) -> Recorder:
        """What keeps the records of both models on batches."""
        features = self.plugin.routing.features_of
        estimate = None if self.config.labelled else self._stand_ins
        return Recorder(self.student, self.teacher, self.task, scores, features, estimate)

    def _stand_ins(self, student: Output, teacher: Output, image_ids: Sequence[str]) -> Sequence[Opaque]:
        """What both models' answers on a batch are judged by for want of labels."""
        return self.plugin.pseudo_targets(student, teacher, len(self.data.class_names), image_ids)

    def batches_after(self, last: str | None, between: Sequence[Model] = ()) -> Iterator[Batch]:
        """Batches begin at multiples of the batch size, whether or not a picture before was left out.

        Args:
            last: id of the last image that is done; `between`: further models that see the images.
        """
        settings = self.config.run
        done = 0 if last is None else self.data.image_ids.index(last) + 1
        return self.batches(-(-done // settings.batch_size) * settings.batch_size, len(self.data), between)

    def batches(self, start: int, stop: int, between: Sequence[Model] = ()) -> Iterator[Batch]:
        """The batches of the images from `start`, a multiple of the batch size, up to `stop`."""
        settings = self.config.run
        stream = batches_from(
            start,
            self.data,
            [model.preprocess for model in (self.student, *between, self.teacher)],
            settings.batch_size,
            settings.workers,
            stop=stop,
            collate=partial(collated, self.plugin.data.collate),
        )
        for ids, student, *between_inputs, teacher, targets in stream:
            yield Batch(ids, student, teacher, targets, between_inputs)

    def first_answers(self, student: Model, count: int) -> list[Output]:
        """A student's answers to so many of the images, at most, drawn at random with the seed."""
        return sample_answers(student, self.data, count, self.config.run)

    def write_artifacts(
        self, folder: Path, run: PairedRun, reported: PairedRun, decision: RouterDecision, score: str
    ) -> None:
        """What the task leaves beside a report, where it leaves anything.

        Args:
            run: all images; `reported`: those that the report is about; `decision`: on these.
        """
        defer = decide(score_of(run, score), decision.threshold).defer
        self.plugin.write_artifacts(folder, self.data, run, reported, decision, defer)

    def measure(
        self, run: PairedRun, score: ScoreFunction, decision: RouterDecision
    ) -> tuple[Mapping[str, Latency], float]:
        """Latency of student, teacher and the live pair on the same images, side by side.

        The sample is seeded and holds deferred and kept images in the proportion of `decision`, so that the
        pair is timed at its own deferral rate. Preprocessing is timed, decoding is not.

        Returns:
            latency of `student`, `teacher` and `joint`, and the deferral rate in the timed calls.
        """
        settings = self.config.latency
        joint = JointModel(self.student, self.teacher, score, decision.threshold)
        outputs: list[JointOutput] = []
        positions = {image: index for index, image in enumerate(self.data.image_ids)}
        sample = stratified(
            decision, settings.batch_size * settings.batches, np.random.default_rng(self.config.run.seed)
        )
        chosen = [positions[run.image_ids[index]] for index in sample]
        size = settings.batch_size
        times = measure_latency(
            {**self.alone(), "joint": lambda images: outputs.append(joint(images))},
            ([self.data.load(i) for i in chosen[at : at + size]] for at in range(0, len(chosen), size)),
            batch_size=size,
            device=device_name(self.device),
            warmup=settings.warmup,
        )
        timed = outputs[settings.warmup :]
        return times, float(np.mean([output.decision.deferral_rate for output in timed]))

    def measure_decision(self, score: ScoreFunction) -> float:
        """`latency.measure_decision` on the answers to 50 of the images, drawn with the seed."""
        sample = np.random.default_rng(self.config.run.seed).permutation(len(self.data))[:50]
        return measure_decision(score, answers_to(self.student, self.data, sample.tolist(), 1)[1])

    def measure_batches(self, run: PairedRun) -> tuple[dict[int, tuple[float, float]], Load | None]:
        """Mean ms an image of student and teacher alone at the further batch sizes; on seeded images.

        As many images as `measure` sees are timed, at least three batches.

        Returns:
            them by batch size, and the load beside them all.
        """
        settings, means, meter = self.config.latency, {}, Meter()
        indices = [self.data.image_ids.index(image) for image in run.image_ids]
        for size in settings.batch_sizes:
            count = max(3, settings.batch_size * settings.batches // size)
            sample = np.random.default_rng(self.config.run.seed).permutation(indices)
            batches = np.resize(sample, count * size).reshape(count, size)
            times = measure_latency(
                self.alone(),
                ([self.data.load(int(index)) for index in batch] for batch in batches),
                batch_size=size,
                device=device_name(self.device),
                warmup=settings.warmup,
            )
            means[size] = times["student"].mean, times["teacher"].mean
        return means, meter.lap() if means else None

    def alone(self) -> dict[str, OnPictures]:
        """Each model on pictures, preprocessing and all."""
        return {"student": on_pictures(self.student), "teacher": on_pictures(self.teacher)}


def build_models(
    config: EvaluateConfig,
    data: Classes,
    device: str,
    objects: Objects = NO_OBJECTS,
    sides: Sequence[str] = SIDES,
) -> tuple[Model, Model]:
    """Student and teacher for the classes of the data; random weights, where meant, follow the seed.

    Args:
        sides: those that are built; of the other one there is an `AbsentModel`.
    """
    import torch

    torch.manual_seed(config.run.seed)
    models: list[Model] = []
    for side in SIDES:
        section: ModelSection = getattr(config, side)
        # a teacher's random weights are those that follow the student's
        if side in sides or (side == "student" and config.teacher.random_weights):
            ready = getattr(objects, side)
            inner = nested_pair(config) if side == "teacher" and ready is None else None
            if inner is not None:
                models.append(build_nested(config, inner, data, device))
            else:
                models.append(_build_model(config.task, section, data, device, ready))
        else:
            models.append(AbsentModel(section.name or section.arch))
    student, teacher = models
    return student, teacher


def _build_model(
    task: str, section: ModelSection, data: Classes, device: str, ready: Model | None = None
) -> Model:
    """A model whose answers are of all classes of the data, also where it tells only some apart."""
    plugin, popular = load_task(task), popular_of(section, data)

    def built(classes: Classes) -> Model:
        if ready is not None:
            return checked_model(ready, classes)
        if section.sha256 is not None:
            brought_digest(section)  # a file that is another one now is refused
        return plugin.models.build_model(classes, device=device, **section.built())

    if popular is None:
        return built(data)
    model = built(plugin.popular.narrow_classes(data, popular))
    other_at = getattr(section, "other_at", None)
    return Changed(model, partial(plugin.popular.widen, popular=popular, other_at=other_at))


def popular_of(section: ModelSection, data: Classes) -> Popular | None:
    """The classes of the data that a specialised student tells apart; None of a model of all classes.

    Raises ConfigError as `popular.Popular` does.
    """
    return None if section.popular is None else Popular.of(section.popular, data.class_names)


def with_checksums(config: EvaluateConfig) -> EvaluateConfig:
    """The configuration with the sha256 of the weights that it names, so that it tells exactly which."""
    tiers = [tier._replace(section=_with_checksum(tier.section)) for tier in tiers_of(config)]
    return with_tiers(config, tiers)


def with_device(config: EvaluateConfig, device: str) -> EvaluateConfig:
    """The configuration with the device that it is run on."""
    return config.model_copy(update={"run": config.run.model_copy(update={"device": device})})


def _with_checksum(section: ModelSection) -> ModelSection:
    if section.sha256 is not None and section.arch != NESTED:
        return section
    digest = digest_of(section)
    return section if digest is None else section.model_copy(update={"sha256": digest})


def resolve_device(name: str) -> str:
    """`auto` -> `cuda` where there is a GPU, else `cpu`. Raises ConfigError for a device not here."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Expected a device of this machine, got `{name}`: {reason}.") from error
    return name
