"""What a run needs at its end, asked for before its first batch."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

from ebjr_det.api.auto_router import certifying_fraction
from ebjr_det.api.seen import count_unseen
from ebjr_det.api.traffic import stated_on
from ebjr_det.config import EvaluateConfig
from ebjr_det.config.tiers import inner_pair
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput, first_line
from ebjr_det.core.joint import JointTeacher
from ebjr_det.evaluation.certify import check_reachable, check_target, uncertified
from ebjr_det.evaluation.run_folder import RUN
from ebjr_det.inference.router_file import check_no_front
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import WEIGHTS, check_answers, weights_of
from ebjr_det.io.files import check_space
from ebjr_det.io.loader import first_readable
from ebjr_det.runtimes.macs import macs_of
from ebjr_det.tasks import load_task
from ebjr_det.tasks.adapted import plain
from ebjr_det.tasks.contract import Picture, facts_of

if TYPE_CHECKING:
    from ebjr_det.inference.pair import Pair

REPORT_BYTES, IMAGE_BYTES, BOX_BYTES = 8_000_000, 200, 60
"""What a run leaves: its report, each image's records, each box of one model; a little less than measured."""


class Ready(NamedTuple):
    """What is known of a pair before it has seen a batch.

    Attributes:
        scoring: for the classes and the student of the pair.
        cost: multiply-adds of both models; facts: what each tells about itself, by `student` and `teacher`.
    """

    scoring: Scoring
    cost: CostModel
    facts: Mapping[str, Mapping[str, object]]


def check_settings(config: EvaluateConfig) -> Scoring:
    """What needs neither data nor models: the router's file, names of scores and the target.

    Raises:
        EbjrError: see `Scoring.load`, `check_no_front` and `check_target`.
    """
    check_no_front(config.router)
    scoring = Scoring.load(config.task, config.router, live=True)
    if config.router.target is not None:
        confidence = config.router.target.confidence
        if confidence is not None and not config.labelled:
            raise uncertified(confidence)
        check_target(config.router.target, load_task(config.task).judge())
    return scoring


def check_ahead(pair: "Pair", scoring: Scoring, out: Path | None = None) -> Ready:
    """Everything that the analysis of a run would refuse when both models have seen all images.

    Args:
        scoring: of the pair's configuration.
        out: the folder of the run; without one neither its disk nor the student, which may be untrained, is
            looked at.

    Raises:
        ConfigError: a router, target, mix or reference that does not fit the pair and its data.
        InvalidInput: images without any object, none that can be read, or all in the router's fit,
            multiply-adds that cannot be counted, facts that are no JSON, or a disk that is too full.
        Infeasible: a target that no result of this pair can meet.
    """
    config, data = pair.config, pair.data
    target, mix = config.router.target, config.traffic
    class_names, popular = data.class_names, () if pair.popular is None else pair.popular.names
    scoring = scoring.bind(class_names, popular)
    counts = pair.plugin.class_counts(data) if config.labelled else None
    if counts is not None and not counts.any():
        raise InvalidInput("Expected an annotated object that is no crowd in the images, got none.")
    if mix is not None:
        if counts is None:
            raise ConfigError("Expected `traffic` of labelled pictures whose classes are known, got others.")
        stated_on(mix, counts[None], class_names, pair.popular)
    image = first_readable(data)
    cost, facts = _counted(pair, image)
    _check_batches(pair, image)
    pair.plugin.check_artifacts()
    anew = out is not None and not (out / RUN).is_file()
    if out is not None:
        weights = weights_of(pair.student)
        scoring = scoring.bind(class_names, popular, pair.student.name, weights)
        if anew:
            check_answers(scoring, partial(pair.first_answers, pair.student), weights)
        check_space(out, REPORT_BYTES + len(data) * _bytes_per_image(config))
    images = count_unseen(scoring, pair, answered=anew)
    if target is not None:
        fraction = certifying_fraction(config.router, target, images)
        check_reachable(target, fraction, images, cost.student_macs or 0.0)
    return Ready(scoring, cost, facts)


def _counted(pair: "Pair", image: Picture) -> tuple[CostModel, Mapping[str, Mapping[str, object]]]:
    """Multiply-adds of both models, as the configuration states or counted on an image, and their facts.

    Raises:
        InvalidInput: multiply-adds that cannot be counted, or facts that are no JSON.
    """
    macs, facts = {}, {}
    for side, model in (("student", pair.student), ("teacher", pair.teacher)):
        if isinstance(model, JointTeacher) and getattr(pair.config, side).macs is None:
            if inner_pair(pair.config) is not None:
                raise ConfigError("Expected two models here, got tiers, which `evaluate` alone takes.")
            raise ConfigError(
                f"Expected `{side}.macs`, what the pair {model.name} costs an image on average, got none. "
                "A replay of tiers tells it."
            )
        macs[side] = macs_of(plain(model), image, getattr(pair.config, side).macs, f"{side}.macs")
        facts[side] = facts_of(model, image)
        if weights := weights_of(model):
            facts[side] = {**facts[side], WEIGHTS: weights}
        _check_facts(facts[side], side)
    return CostModel(macs["student"], macs["teacher"]), facts


def _check_batches(pair: "Pair", image: Picture) -> None:
    """Try the batches of the latency measurement that are larger than those of the run.

    Raises:
        ConfigError: one is too large for this machine.
    """
    latency, largest = pair.config.latency, pair.config.run.batch_size
    for size in sorted({latency.batch_size, *latency.batch_sizes}) if latency.measure else ():
        for side, call in pair.alone().items() if size > largest else ():
            try:
                call([image] * size)
            except (MemoryError, RuntimeError) as error:  # torch's own lack of memory is one
                raise ConfigError(
                    f"Expected batches of `latency` that the {side} can take on `{pair.device}`, got {size}: "
                    f"{first_line(error)}."
                ) from error


def _check_facts(facts: Mapping[str, object], side: str) -> None:
    try:
        to_json(facts, inf_nan_mode="constants")
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"Expected `facts` of the {side} as plain numbers and texts, got: {first_line(error)}."
        ) from error


def _bytes_per_image(config: EvaluateConfig) -> int:
    boxes = sum(getattr(side, "max_detections", 0) for side in (config.student, config.teacher))
    return IMAGE_BYTES + BOX_BYTES * boxes
