"""What `benchmark` times: student, teacher and the pair at some thresholds, whole or stage by stage."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel, ScoreFunction
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.core.types import FloatArray, Model, Output
from ebjr_det.evaluation.benchmark.result import SIDES, STAGES, Point
from ebjr_det.evaluation.benchmark.scenarios import Subject
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan

DECODE, PREPROCESS, _, _, POST, ROUTING = STAGES


@dataclass
class Watch:
    """Seconds by stage since it was last read."""

    laps: dict[str, float] = field(default_factory=dict)

    def time(self, stage: str, call: Callable[..., Any], *args: Any) -> Any:
        """What the call returns; its time goes to the stage."""
        start = perf_counter()
        found = call(*args)
        self.laps[stage] = self.laps.get(stage, 0.0) + perf_counter() - start
        return found

    def read(self) -> dict[str, float]:
        """The laps, which begin anew."""
        found, self.laps = self.laps, {}
        return found


class Watched:
    """A model whose stages are timed; where its network cannot be timed apart, post-processing is in it."""

    def __init__(self, model: Model, side: str, watch: Watch) -> None:
        self.model, self.name, self.watch = model, model.name, watch
        self.network, self.halves = f"{side} network", halves(model)

    def preprocess(self, image: Any) -> Any:
        """The model's, timed."""
        return self.watch.time(PREPROCESS, self.model.preprocess, image)

    def __call__(self, inputs: Sequence[Any]) -> Output:
        """The model's answers, its halves timed."""
        if self.halves is None:
            whole: Output = self.watch.time(self.network, self.model, inputs)
            return whole
        forward, decode = self.halves
        raw = self.watch.time(self.network, forward, inputs)
        output: Output = self.watch.time(POST, decode, raw, inputs)
        return output


Halves = tuple[Callable[[Sequence[Any]], Any], Callable[[Any, Sequence[Any]], Output]]


def halves(model: Any) -> Halves | None:
    """Network and post-processing of a model apart, or None where it does not tell them."""
    if hasattr(model, "forward") and hasattr(model, "decode"):
        return model.forward, model.decode
    return None


def subjects_of(
    models: Mapping[str, Model],
    score: ScoreFunction,
    points: Mapping[str, Point],
    batch_size: int,
) -> list[Subject]:
    """Student, teacher and the pair at each point; each answers any number of images in batches.

    Args:
        models: by `student` and `teacher`.
    """
    found = [Subject(side, _in_batches(_alone(models[side]), batch_size)) for side in SIDES]
    for name, point in points.items():
        pair = _Counted(JointModel(models["student"], models["teacher"], score, point.threshold), batch_size)
        found.append(Subject(name, pair, pair.so_far))
    return found


class _Counted:
    """The live pair on a query as `predict` runs it, but in one thread; it counts what it defers."""

    def __init__(self, joint: JointModel, batch_size: int) -> None:
        self.joint, self.deferred = joint, 0
        self.plan = Plan(batch_size, batch_size, workers=0)

    def __call__(self, images: Sequence[Any]) -> None:
        if self.plan.batch_size == 1:
            self.deferred += sum(int(self.joint([image]).decision.defer.sum()) for image in images)
        else:
            self.deferred += sum(one.deferred for one in answers(self.joint, images, _itself, self.plan))

    def so_far(self) -> int:
        return self.deferred


def _itself(image: Any) -> Any:
    return image


def _alone(model: Model) -> Callable[[Sequence[Any]], Any]:
    return lambda images: model([model.preprocess(image) for image in images])


def _in_batches(call: Callable[[Sequence[Any]], Any], size: int) -> Callable[[Sequence[Any]], None]:
    def answer(images: Sequence[Any]) -> None:
        for at in range(0, len(images), size):
            call(images[at : at + size])

    return answer


def scores_of(model: Model, score: ScoreFunction, images: Sequence[Any], batch_size: int) -> FloatArray:
    """The student's deferral scores of some images."""
    lots = (images[at : at + batch_size] for at in range(0, len(images), batch_size))
    return np.concatenate([score(model([model.preprocess(image) for image in lot])) for lot in lots])


def points_at(scores: FloatArray, rates: Sequence[float], threshold: float | None) -> dict[str, Point]:
    """The pair's points by name: each rate's threshold on these scores, and one given threshold."""
    points = {f"joint {100 * rate:g} %": Point(threshold_for_rate(scores, rate), rate) for rate in rates}
    return points if threshold is None else {**points, AT_THRESHOLD: Point(threshold)}


AT_THRESHOLD = "joint at threshold"


def sample_of(data: Any, count: int, seed: int) -> tuple[list[int], list[Any]]:
    """Places and pictures of a seeded sample; one that cannot be read is named and left out, or is an error.

    Raises:
        InvalidInput: none can be read.
    """
    places: list[int] = []
    pictures: list[Any] = []
    for index in np.random.default_rng(seed).permutation(len(data)).tolist():
        if len(places) == count:
            break
        try:
            pictures.append(data.load(index))
        except InvalidInput as error:
            if not getattr(data, "skip_unreadable", False):
                raise
            tqdm.write(f"Left out: {error}", file=sys.stderr)
            continue
        places.append(index)
    if not places:
        raise InvalidInput("Expected at least one image that can be read, got none.")
    return places, pictures
