"""Out-of-fold scores: every picture is scored by a router that has not seen it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import FloatArray, Matches, Output, PairedRun, Task, concatenate

LEAST_IMAGES = 10


class FittedRouter(Protocol):
    """What a task's fitted router does; `Output`s and records are the student's."""

    def scores(self, output: Output) -> Mapping[str, FloatArray]:
        """Deferral scores by name of a batch of answers that `rescale` gave, each image on its own."""

    def scores_of_set(self, run: PairedRun) -> Mapping[str, FloatArray]:
        """The same from a run's records, which are a whole set: with the scores that look at all of it."""

    def rescale(self, output: Output) -> Output:
        """The student's answers with scores that are comparable with the teacher's."""

    def rescale_records(self, matches: Matches) -> Matches:
        """The same for match records."""

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything of it as plain numbers."""


def folds(images: int, count: int, seed: int) -> list[NDArray[np.intp]]:
    """The images in seeded random parts of equal size, ascending within each.

    Raises:
        ConfigError: fewer than two folds. InvalidInput: fewer than ten images a fold.
    """
    check_seed(seed)
    if count < 2:
        raise ConfigError(f"Expected at least 2 folds, got {count}.")
    if images < count * LEAST_IMAGES:
        raise InvalidInput(
            f"Expected at least {count * LEAST_IMAGES} pictures for {count} folds, got {images}. "
            "A router that is fitted on so few is worth nothing."
        )
    order = np.random.default_rng(seed).permutation(images)
    return [np.sort(order[start::count]) for start in range(count)]


def cross_fit(
    run: PairedRun,
    task: Task,
    fit: Callable[[PairedRun], FittedRouter],
    parts: list[NDArray[np.intp]],
    progress: "tqdm[Any]",
) -> PairedRun:
    """The run with out-of-fold scores beside its own, and with the student's records rescaled out of fold.

    Args:
        fit: a router from a run, the pictures of which are all that it sees.
        parts: of `folds`.
        progress: moves on by one a fold.
    """
    scored: list[PairedRun] = []
    for part in parts:
        router = fit(select(run, task, np.setdiff1d(np.arange(len(run)), part)))
        own = select(run, task, part)
        own = replace(own, student=router.rescale_records(own.student))
        scored.append(replace(own, scores={**own.scores, **router.scores_of_set(own)}))
        progress.update()
    back = np.argsort(np.concatenate(parts))
    return replace(
        run,
        scores={
            name: np.concatenate([own.scores[name] for own in scored])[back] for name in scored[0].scores
        },
        student=task.take(concatenate([own.student for own in scored]), back),
    )
