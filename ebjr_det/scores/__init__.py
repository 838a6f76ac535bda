"""Deferral scores: how doubtful is the student about an image? Higher = send to the teacher.

`SCORES` holds every score by name with its formula and source; `deferral_scores` applies one to a batch
of logits. A score is computed for each row (a classification, or a kept box) in float64, and the rows of
an image are averaged. Adding a score: write the function in `rows`, add one entry to `SCORES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from ebjr_det.errors import ConfigError, InvalidInput, did_you_mean
from ebjr_det.scores import rows
from ebjr_det.types import FloatArray, Logits

ENERGY_PAPER = "Liu et al. 2020, arXiv 2010.03759; EBJR, arXiv 2110.10343, eq. 4"


@dataclass(frozen=True)
class Score:
    """One registered score: `function` maps [..., classes] logits to [...] scores."""

    name: str
    function: Callable[..., FloatArray]
    formula: str
    source: str
    options: tuple[str, ...] = ()


SCORES: Mapping[str, Score] = MappingProxyType(
    {
        s.name: s
        for s in (
            Score("free_energy", rows.free_energy, "-T logsumexp(f / T)", ENERGY_PAPER, ("temperature",)),
            Score(
                "probability_logsumexp",
                rows.probability_logsumexp,
                "-logsumexp(softmax(f))",
                "released code of EBJR, github.com/vbdi/ebjr",
                ("dtype",),
            ),
            Score("max_softmax", rows.max_softmax, "-max softmax(f)", "Hendrycks & Gimpel 2017, arXiv 1610.02136"),
            Score("max_logit", rows.max_logit, "-max f", "Hendrycks et al. 2022, arXiv 1911.11132"),
            Score("entropy", rows.entropy, "-sum p log p, p = softmax(f)", "Shannon 1948; Teerapittayanon et al. 2016, arXiv 1709.01686"),
            Score("margin", rows.margin, "p2 - p1, the two largest of softmax(f)", "Scheffer et al. 2001, doi 10.1007/3-540-44816-0_31"),
            Score("joint_energy", rows.joint_energy, "-sum softplus(f)", "Wang et al. 2021, arXiv 2109.14162"),
            Score("random", rows.random, "uniform in [0, 1), a hash of f", "the control: a coin", ("seed",)),
        )
    }
)  # fmt: skip


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
            raise ConfigError(
                f"Expected an option of score `{name}`, got `{option}`. {did_you_mean(option, score.options)}"
            )
    counts = logits.valid.sum(axis=1)
    if not counts.all():
        raise InvalidInput("Expected at least one valid row an image, got an image without rows.")
    by_row = score.function(logits.values, **options).astype(np.float64)
    return np.where(logits.valid, by_row, 0.0).sum(axis=1) / counts


def all_scores(logits: Logits) -> dict[str, FloatArray]:
    """Every registered score with its default options, by name."""
    return {name: deferral_scores(logits, name) for name in SCORES}
