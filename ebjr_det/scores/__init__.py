"""Deferral scores: how doubtful is the student about an image? Higher = send to the teacher.

`SCORES` holds every score by name with its formula and source; `deferral_scores` applies one to a batch of
logits. A score is computed for each row (a classification, or a kept box) and averaged over an image's rows.
Adding a score: write its function in `classwise`.
"""

from typing import Any

import numpy as np

from ebjr_det.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.scores.classwise import SCORES, Score
from ebjr_det.types import FloatArray, Logits

__all__ = ["SCORES", "Score", "deferral_scores", "get_score"]


def get_score(name: str) -> Score:
    """The registered score of that name. Raises ConfigError that offers the nearest match."""
    if name not in SCORES:
        raise ConfigError(f"Expected a known score, got `{name}`. {did_you_mean(name, SCORES)}")
    return SCORES[name]


def deferral_scores(logits: Logits, name: str, **options: Any) -> FloatArray:
    """Score a batch: float64 [images], higher = send to the teacher.

    Args:
        logits: [images, rows, classes]; rows of an image are averaged over the valid ones.
        name: a key of `SCORES`.
        options: what that score takes (`Score.options`), for example `temperature`.

    Raises:
        ConfigError: unknown score or option.
        InvalidInput: an image without a valid row.

    >>> pair = Logits.one_row(np.array([[4.0, 0.0], [0.1, 0.0]]))
    >>> deferral_scores(pair, "margin").round(3).tolist()
    [-0.964, -0.05]
    """
    score = get_score(name)
    for option in options:
        if option not in score.options:
            hint = did_you_mean(option, score.options)
            raise ConfigError(f"Expected an option of score `{name}`, got `{option}`. {hint}")
    counts = logits.valid.sum(axis=1)
    if not counts.all():
        raise InvalidInput("Expected at least one valid row an image, got an image without rows.")
    try:
        by_row = score.function(logits.values[logits.valid], **options).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Expected options that score `{name}` can use, got {options}: {first_line(error)}."
        ) from error
    starts = np.cumsum(counts) - counts
    return np.asarray(np.add.reduceat(by_row, starts) / counts)
