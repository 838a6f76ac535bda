"""Deferral scores: how doubtful is the student about an image? Higher = send to the teacher.

One score = one small function of a row of logits f [..., classes] -> [...], computed in float64 whatever the
precision of the logits. f are raw logits, p = softmax(f); a single logit f (a box of which only its score is
known) has p = sigmoid(f), 1 - sigmoid(f). A function becomes a score by its `@score(formula, source)`; its
keyword arguments are the score's options. `deferral_scores` computes a score for each row (a
classification, or a kept box) and aggregates it over an image's first `top_k` rows.
"""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import entr, expit, softmax

from ebjr_det.core.errors import ConfigError, check_known, first_line
from ebjr_det.core.logsumexp import row_logsumexp, segment_logsumexp
from ebjr_det.core.types import FloatArray, Indices, Logits, Output

ENERGY = "free_energy"
"""The score that EBJR publishes."""
CURVATURE = "energy_curvature"
"""The score that decides where none is named and none can be chosen."""
EMPTY_LOGIT = -20.0
"""Every logit of the one row that stands for an image in which the student found nothing: the most doubtful
row there is, so such images go to the teacher first."""
TINY = np.finfo(np.float64).tiny

Floats: TypeAlias = NDArray[np.floating]
Count: TypeAlias = int | Literal["auto"] | None
"""How many of an image's rows count: so many, all (None), or as the score itself says."""
RowFunction: TypeAlias = Callable[..., FloatArray]


@dataclass(frozen=True)
class Score:
    """A registered score: `function` maps logits [..., classes] to scores [...].

    Attributes:
        all_classes: it says nothing of a box of which only its own score is known.
        of_log_odds: its function takes the classes' log-odds under the model's own head (`log_odds_of`).
        top_k, aggregate: of an image's boxes, where the settings name none.
    """

    name: str
    function: RowFunction
    formula: str
    source: str
    options: tuple[str, ...]
    all_classes: bool = False
    of_log_odds: bool = False
    top_k: int | None = 10
    aggregate: str = "mean"


SCORES: dict[str, Score] = {}
"""Every score by name, in the order of this file."""


def score(formula: str, source: str, **traits: Any) -> Callable[[RowFunction], RowFunction]:
    """Register a function under its own name; `traits` are further fields of `Score`."""

    def register(function: RowFunction) -> RowFunction:
        _, *options = inspect.signature(function).parameters
        name = function.__name__
        SCORES[name] = Score(name, function, formula, source, tuple(options), **traits)
        return function

    return register


@score("-T logsumexp(f / T)", "Liu et al. 2020, arXiv 2010.03759, eq. 4; EBJR, arXiv 2110.10343")
def free_energy(logits: Floats, temperature: float = 1.0) -> FloatArray:
    """Free energy of the input under the student.

    Args:
        temperature: T, from 1e-6 to 1e6, else a ConfigError. As T falls to 0 it approaches `max_logit`.

    >>> round(free_energy(np.array([0.0, 0.0])).item(), 6)
    -0.693147
    """
    if not 1e-6 <= temperature <= 1e6:
        raise ConfigError(f"Expected `temperature` from 1e-6 to 1e6, got {temperature}.")
    return np.asarray(-temperature * row_logsumexp(_f64(logits) / temperature))


@score("-logsumexp(softmax(f))", "EBJR's released code, github.com/vbdi/ebjr, ebjr.py")
def probability_logsumexp(logits: Floats, dtype: DTypeLike = np.float64) -> FloatArray:
    """The score that the released EBJR code thresholds; not the energy of the logits.

    Its negative lies in [log K + 1/K, log(K - 1 + e)] for K classes and is close to max-softmax.

    Args:
        dtype: float32 reproduces the published tables to the image; float64 everywhere else.
    """
    if dtype not in ("float32", "float64", np.float32, np.float64):
        raise ConfigError(f"Expected `dtype` to be float32 or float64, got {dtype}.")
    probabilities = _probabilities(np.asarray(logits, dtype=dtype))
    return np.asarray(-row_logsumexp(probabilities))


@score("-max softmax(f)", "Hendrycks & Gimpel 2017, arXiv 1610.02136")
def max_softmax(logits: Floats) -> FloatArray:
    """Negative probability of the predicted class, in [-1, -1/K]."""
    return np.asarray(-_probabilities(_f64(logits)).max(axis=-1))


@score("-max f", "Hendrycks et al. 2022, arXiv 1911.11132")
def max_logit(logits: Floats) -> FloatArray:
    """Negative largest logit."""
    return np.asarray(-_f64(logits).max(axis=-1))


@score("-sum p log p, p = softmax(f)", "BranchyNet, Teerapittayanon et al. 2016, arXiv 1709.01686")
def entropy(logits: Floats) -> FloatArray:
    """Shannon entropy of the predicted probabilities in nats, in [0, log K]."""
    return np.asarray(entr(_probabilities(_f64(logits))).sum(axis=-1))


@score("p2 - p1, the two largest of softmax(f)", "Scheffer et al. 2001, doi 10.1007/3-540-44816-0_31")
def margin(logits: Floats) -> FloatArray:
    """Runner-up minus winner, in [-1, 0]."""
    top = np.partition(_probabilities(_f64(logits)), -2, axis=-1)[..., -2:]
    return np.asarray(top[..., 0] - top[..., 1])


@score("-sum softplus(f)", "Wang et al. 2021, arXiv 2109.14162, eq. 6")
def joint_energy(logits: Floats) -> FloatArray:
    """Joint energy of independent sigmoid outputs, each class on its own."""
    return np.asarray(-np.logaddexp(0.0, _f64(logits)).sum(axis=-1))


@score(
    "sum p (1 - p), p = softmax(f), of detectors sigmoid(f)",
    "second derivative of the energy; for a softmax the Gini impurity, Breiman et al. 1984",
    of_log_odds=True,
    top_k=None,
    aggregate="sum",
)
def energy_curvature(log_odds: Floats) -> FloatArray:
    """How much hangs in doubt: the curvature of the energy, where `free_energy` is its level.

    Of a softmax row it is the trace of the Hessian of logsumexp(f), 1 - sum p^2, in [0, 1 - 1/K]; of
    independent sigmoids the second derivative of sum softplus(f) under a common shift of the logits, the
    variance of the number of objects, in [0, K/4]. Variances add up, so a picture's is the sum over all its
    boxes, and a picture without boxes has next to none. EBJR's released score is to second order a function
    of the softmax form: -log(K + 1 + sum p^2 / 2).

    >>> energy_curvature(np.array([0.0, 0.0])).item()
    0.5
    """
    return np.asarray((expit(log_odds) * expit(-log_odds)).sum(axis=-1))


@score("sigmoid of the second largest f", "ambiguity of names: the rival class", all_classes=True)
def rival_class(logits: Floats) -> FloatArray:
    """How likely the next best class is by itself, in [0, 1]; for heads with one sigmoid a class.

    An image without boxes has no rival: near 0. Raises ConfigError for logits of one class.
    """
    if logits.shape[-1] < 2:
        raise ConfigError(
            "Expected the logits of all classes for score `rival_class`, got one a box: a result file "
            "holds no more. Evaluate the models themselves, or choose another score."
        )
    return np.asarray(expit(np.partition(_f64(logits), -2, axis=-1)[..., -2]))


@score("uniform in [0, 1), a hash of f", "the control: a coin")
def random(logits: Floats, seed: int = 0) -> FloatArray:
    """A coin that depends on nothing but the row, rounded to hundredths, and the seed.

    Hashing the logits gives an image the same number in any order or process, and in any batch unless a
    logit's last bits, which a network changes with the batch size, move it over a hundredth.
    """
    if not isinstance(seed, int) or abs(seed) >= 2**63:
        raise ConfigError(f"Expected `seed` to be a whole number of 64 bits, got {seed}.")
    values = np.ascontiguousarray(_f64(logits).round(2) + 0.0)
    key = seed.to_bytes(8, "little", signed=True)
    digests = b"".join(
        hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest()
        for row in values.reshape(-1, values.shape[-1])
    )
    bits = np.frombuffer(digests, dtype=np.uint64) >> np.uint64(11)  # 53 of them, as many as a float64 holds
    return np.asarray((bits * 2.0**-53).reshape(values.shape[:-1]))


def log_odds_of(logits: Logits) -> Logits:
    """Logits [images, rows, classes] as log(p / (1 - p)), p being each class's probability under the head.

    Of sigmoids, and of a single logit, they are the logits themselves. Of a softmax they are f_c minus
    logsumexp of all others, the background among them; they are finite where a class is all but certain.
    """
    values = np.where(logits.valid[..., None], _f64(logits.values), 0.0)  # whatever pads has no logsumexp
    if logits.head == "sigmoid" or (values.shape[2] == 1 and logits.background is None):
        return Logits(values, logits.valid, "sigmoid")
    scale = values if logits.background is None else np.dstack([values, _f64(logits.background)])
    log_p = values - row_logsumexp(scale)[..., None]
    return Logits(log_p - np.log(np.maximum(-np.expm1(log_p), TINY)), logits.valid, "sigmoid")


def _probabilities(logits: Floats) -> Floats:
    """softmax(f); a single sigmoid output is two classes, the second of which has the logit 0."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([logits, np.zeros_like(logits)], axis=-1)
    return np.asarray(softmax(logits, axis=-1))


def _f64(logits: Floats) -> FloatArray:
    return np.asarray(logits, dtype=np.float64)


AGGREGATES: dict[str, Callable[[FloatArray, Indices], FloatArray]] = {
    "mean": lambda by_row, starts: np.add.reduceat(by_row, starts) / np.diff(starts, append=len(by_row)),
    "sum": np.add.reduceat,
    "min": np.minimum.reduceat,
    "logsumexp": segment_logsumexp,
}
"""Scores of all rows, first row of each image -> scores of the images."""


def deferral_scores(
    answers: Logits | Output,
    name: str,
    *,
    top_k: Count = "auto",
    aggregate: str = "auto",
    **options: object,
) -> FloatArray:
    """Score a batch by one of the scores of logits: float64 [images], higher = send to the teacher.

    Args:
        answers: a student's, or their logits [images, rows, classes] alone, the rows of an image in
            descending order of detection score. An image without a valid row counts as one row of logits of
            -20 (`EMPTY_LOGIT`).
        name: a key of `SCORES`; for a task's own scores and fitted routers see `ebjr_det.build_router`.
        top_k: only the first so many valid rows of an image, None for all; `auto`: as the score itself says.
        aggregate: how its rows' scores become one: a key of `AGGREGATES`; `auto`: as the score itself says.
        options: what that score takes (`Score.options`), for example `temperature`.

    Raises:
        ConfigError: unknown score, aggregate or option.

    >>> pair = Logits.one_row(np.array([[4.0, 0.0], [0.1, 0.0]]))
    >>> deferral_scores(pair, "margin").round(3).tolist()
    [-0.964, -0.05]
    """
    check_known(name, SCORES, "a known score")
    score, logits = SCORES[name], answers.logits if isinstance(answers, Output) else answers
    for option in options:
        check_known(option, score.options, f"an option of score `{name}`")
    top_k, aggregate = rows_counted(name, top_k, aggregate)
    check_known(aggregate, AGGREGATES, "a known aggregate")
    rows, starts = rows_of(log_odds_of(logits) if score.of_log_odds else logits, top_k)
    try:
        by_row = score.function(rows, **options).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"Expected options that score `{name}` can use, got {options}: {first_line(error)}."
        ) from error
    return np.asarray(AGGREGATES[aggregate](by_row, starts))


def rows_counted(name: str, top_k: Count, aggregate: str) -> tuple[int | None, str]:
    """How many of an image's rows count, and how scores of rows become one; `auto`: as the score says."""
    score = SCORES.get(name, SCORES[ENERGY])
    top_k = score.top_k if top_k == "auto" else top_k
    return top_k, score.aggregate if aggregate == "auto" else aggregate


def rows_of(logits: Logits, top_k: int | None = None) -> tuple[Floats, Indices]:
    """The rows that count, image after image [total, classes], and the first of each image [images].

    See `deferral_scores` for `top_k`. Raises ConfigError where it is below 1.
    """
    chosen = logits.valid
    if top_k is not None:
        if top_k < 1:
            raise ConfigError(f"Expected `top_k` of at least 1, got {top_k}.")
        chosen = chosen & (np.cumsum(chosen, axis=1) <= top_k)
    counts = chosen.sum(axis=1)
    empty = (np.cumsum(counts) - counts)[counts == 0]
    rows = logits.values[chosen]
    if len(empty):
        rows = np.insert(rows, empty, EMPTY_LOGIT, axis=0)
    counts = np.maximum(counts, 1)
    return rows, np.cumsum(counts) - counts
