"""What `benchmark` times: student, teacher and the pair at some thresholds, in one call or stage by stage."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from tqdm.auto import tqdm

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.joint import JointModel, ScoreFunction
from ebjr_det.core.router import threshold_for_rate
from ebjr_det.core.types import FloatArray, Model, Opaque, Output
from ebjr_det.evaluation.benchmark.result import POST_PROCESSING, PREPROCESS, SIDES, Point
from ebjr_det.evaluation.benchmark.scenarios import Images, Subject
from ebjr_det.inference.latency import TimedModel
from ebjr_det.inference.stream import answers
from ebjr_det.inference.stream_plan import Plan
from ebjr_det.io.load import Stopwatch
from ebjr_det.io.loader import Images as DataSet

AT_THRESHOLD = "joint at threshold"
Halves = tuple[Callable[[Images], Opaque], Callable[[Opaque, Images], Output]]


class StagedModel(TimedModel):
    """A model whose stages are timed; where its network cannot be timed apart, post-processing is in it."""

    def __init__(self, model: Model, side: str, watch: Stopwatch) -> None:
        super().__init__(model, watch, PREPROCESS)
        self.network, self.halves = f"{side} network", halves(model)

    def __call__(self, inputs: Images) -> Output:
        """The model's answers, its halves timed."""
        if self.halves is None:
            return self.watch.time(self.network, self.model, inputs)
        forward, decode = self.halves
        return self.watch.time(
            POST_PROCESSING, decode, self.watch.time(self.network, forward, inputs), inputs
        )


def halves(model: Model) -> Halves | None:
    """Network and post-processing of a model apart, or None where it does not tell them."""
    forward, decode = getattr(model, "forward", None), getattr(model, "decode", None)
    return None if forward is None or decode is None else (forward, decode)


def subjects_of(
    models: Mapping[str, Model], score: ScoreFunction, points: Mapping[str, Point], batch_size: int
) -> list[Subject]:
    """Student, teacher and the pair at each point; each answers any number of images in batches.

    Args:
        models: by `student` and `teacher`.
    """
    alone = [Subject(side, partial(_answer_alone, models[side], batch_size)) for side in SIDES]
    plan = Plan(batch_size, batch_size, workers=0)
    pair = partial(JointModel, models["student"], models["teacher"], score)
    return alone + [
        Subject(name, partial(_answer_jointly, pair(point.threshold), plan)) for name, point in points.items()
    ]


def _answer_alone(model: Model, batch_size: int, images: Images) -> int:
    for start in range(0, len(images), batch_size):
        model([model.preprocess(image) for image in images[start : start + batch_size]])
    return 0


def _answer_jointly(joint: JointModel, plan: Plan, images: Images) -> int:
    """The live pair on a query as `predict` runs it, but in one thread; how many images it deferred."""
    if plan.batch_size == 1:
        return sum(int(joint([image]).decision.defer.sum()) for image in images)
    return sum(answer.deferred for answer in answers(joint, images, lambda image: image, plan))


def scores_of(model: Model, score: ScoreFunction, images: Images, batch_size: int) -> FloatArray:
    """The student's deferral scores of some images."""
    batches = (images[start : start + batch_size] for start in range(0, len(images), batch_size))
    return np.concatenate([score(model([model.preprocess(image) for image in batch])) for batch in batches])


def points_at(scores: FloatArray, rates: Sequence[float], threshold: float | None) -> dict[str, Point]:
    """The pair's points by name: each rate's threshold on these scores, and one given threshold."""
    points = {f"joint {100 * rate:g} %": Point(threshold_for_rate(scores, rate), rate) for rate in rates}
    return points if threshold is None else {**points, AT_THRESHOLD: Point(threshold)}


def sample_of(data: DataSet, count: int, seed: int) -> tuple[list[int], list[Opaque]]:
    """Indices and pictures of a seeded sample; one that cannot be read is named and left out, or is an error.

    Raises:
        InvalidInput: none can be read.
    """
    pictures: dict[int, Opaque] = {}
    for index in np.random.default_rng(seed).permutation(len(data)).tolist():
        if len(pictures) == count:
            break
        try:
            pictures[index] = data.load(index)
        except InvalidInput as error:
            if not data.skip_unreadable:
                raise
            tqdm.write(f"Left out: {error}", file=sys.stderr)
    if not pictures:
        raise InvalidInput("Expected at least one image that can be read, got none.")
    return list(pictures), list(pictures.values())
