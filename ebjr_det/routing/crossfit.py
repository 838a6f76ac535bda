"""Out-of-fold scores: every picture is scored by a router that has not seen it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import Array, FloatArray, Matches, Output, PairedRun, Task, concatenate
from ebjr_det.io.threads import thread_count

if TYPE_CHECKING:
    from tqdm import tqdm

LEAST_IMAGES = 10


class FittedRouter(Protocol):
    """What was fitted on a run: scores, and scores of boxes that two models can be compared by."""

    @property
    def features(self) -> int:
        """How many of the student's features it was fitted with; 0 for none."""

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Every score that a picture has on its own, [images]; `output` is rescaled."""

    def scores_of_set(self, run: PairedRun, only: str = "") -> dict[str, FloatArray]:
        """Scores that records allow, of whole sets too, at least `only` one where named; rescaled."""

    def score(self, name: str, output: Output) -> FloatArray:
        """One of `scores` alone, for the live pair."""

    def rescale(self, output: Output) -> Output:
        """The student's answers, comparable with the teacher's."""

    def rescale_records(self, matches: Matches) -> Matches:
        """Match records of the student, comparable with the teacher's."""

    def to_arrays(self) -> dict[str, Array]:
        """The router as plain numbers by name, from which its task builds it again."""


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
    progress: "tqdm[NoReturn]",
    only: str = "",
) -> PairedRun:
    """The run with out-of-fold scores beside its own, and with the student's records rescaled out of fold.

    Args:
        fit: a router from a run, the pictures of which are all that it sees.
        parts: of `folds`.
        progress: moves on by one a fold.
        only: the one score that is wanted out of fold, by default all.
    """

    def scored_fold(part: NDArray[np.intp]) -> PairedRun:
        router = fit(select(run, task, np.setdiff1d(np.arange(len(run)), part)))
        fold = select(run, task, part)
        fold = replace(fold, student=router.rescale_records(fold.student))
        return replace(fold, scores={**fold.scores, **router.scores_of_set(fold, only)})

    scored: list[PairedRun] = []
    with ThreadPoolExecutor(thread_count()) as pool:  # trees and walks over rows let go of Python's lock
        for fold in pool.map(scored_fold, parts):
            scored.append(fold)
            progress.update()
    back = np.argsort(np.concatenate(parts))  # from the order of the folds to that of the run
    return replace(
        run,
        scores={
            name: np.concatenate([fold.scores[name] for fold in scored])[back] for name in scored[0].scores
        },
        student=task.take(concatenate([fold.student for fold in scored]), back),
    )
