"""Deferral scores: how doubtful is the student about an image? Higher = send to the teacher.

`SCORES` holds every score by name with its formula and source; `deferral_scores` applies one to a batch of
logits. A score is computed for each row (a classification, or a kept box) and aggregated over an image's
first `top_k` rows. Adding a score: write its function in `classwise`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, did_you_mean, first_line
from ebjr_det.core.scores.classwise import SCORES, Score
from ebjr_det.core.types import FloatArray, Logits

__all__ = ["AGGREGATES", "ENERGY", "SCORES", "Score", "deferral_scores", "get_score", "rows_of"]

ENERGY = "free_energy"
"""The score that EBJR publishes; it decides where no other is named."""
EMPTY_LOGIT = -20.0
"""Every logit of the one row that stands for an image in which the student found nothing: the most doubtful
row there is, so such images go to the teacher first."""


def _logsumexp(by_row: FloatArray, starts: NDArray[np.intp]) -> FloatArray:
    largest = np.maximum.reduceat(by_row, starts)
    lengths = np.diff(starts, append=len(by_row))
    return np.asarray(largest + np.log(np.add.reduceat(np.exp(by_row - np.repeat(largest, lengths)), starts)))


AGGREGATES: dict[str, Callable[[FloatArray, NDArray[np.intp]], FloatArray]] = {
    # scores of all rows, first row of each image -> scores of the images
    "mean": lambda by_row, starts: np.add.reduceat(by_row, starts) / np.diff(starts, append=len(by_row)),
    "sum": np.add.reduceat,
    "min": np.minimum.reduceat,
    "logsumexp": _logsumexp,
}
"""How the scores of an image's rows become one."""


def get_score(name: str) -> Score:
    """The registered score of that name. Raises ConfigError that offers the nearest match."""
    if name not in SCORES:
        raise ConfigError(f"Expected a known score, got `{name}`. {did_you_mean(name, SCORES)}")
    return SCORES[name]


def deferral_scores(
    logits: Logits, name: str, *, top_k: int | None = None, aggregate: str = "mean", **options: Any
) -> FloatArray:
    """Score a batch: float64 [images], higher = send to the teacher.

    Args:
        logits: [images, rows, classes], the rows of an image in descending order of detection score. An
            image without a valid row counts as one row of logits of -20, the most doubtful there is.
        name: a key of `SCORES`.
        top_k: only the first so many valid rows of an image, by default all.
        aggregate: how its rows' scores become one: a key of `AGGREGATES`.
        options: what that score takes (`Score.options`), for example `temperature`.

    Raises:
        ConfigError: unknown score, aggregate or option.

    >>> pair = Logits.one_row(np.array([[4.0, 0.0], [0.1, 0.0]]))
    >>> deferral_scores(pair, "margin").round(3).tolist()
    [-0.964, -0.05]
    """
    score = get_score(name)
    for option in options:
        if option not in score.options:
            hint = did_you_mean(option, score.options)
            raise ConfigError(f"Expected an option of score `{name}`, got `{option}`. {hint}")
    if aggregate not in AGGREGATES:
        hint = did_you_mean(aggregate, AGGREGATES)
        raise ConfigError(f"Expected a known aggregate, got `{aggregate}`. {hint}")
    rows, starts = rows_of(logits, top_k)
    try:
        by_row = score.function(rows, **options).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Expected options that score `{name}` can use, got {options}: {first_line(error)}."
        ) from error
    return np.asarray(AGGREGATES[aggregate](by_row, starts))


def rows_of(logits: Logits, top_k: int | None = None) -> tuple[NDArray[np.floating[Any]], NDArray[np.intp]]:
    """The rows that count, image after image [total, classes], and the first of each image [images].

    Args:
        top_k: only the first so many valid rows of an image, by default all. An image without any has one of
            `EMPTY_LOGIT`.

    Raises:
        ConfigError: `top_k` below 1.
    """
    if top_k is not None and top_k < 1:
        raise ConfigError(f"Expected `top_k` of at least 1, got {top_k}.")
    values, chosen = logits.values, logits.valid
    if top_k is not None:
        chosen = chosen & (np.cumsum(chosen, axis=1) <= top_k)
    counts = chosen.sum(axis=1)
    empty = np.flatnonzero(counts == 0)
    rows = values[chosen]
    if len(empty):
        at = (np.cumsum(counts) - counts)[empty]
        rows = np.insert(rows, at, EMPTY_LOGIT, axis=0)
        counts = np.maximum(counts, 1)
    return rows, np.cumsum(counts) - counts
