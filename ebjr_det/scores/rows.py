"""One score = one small function of a row of logits f [..., classes] -> [...], higher = defer.

All are computed in float64, whatever the precision of the logits. f are raw logits; p = softmax(f).
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import entr, logsumexp, softmax

from ebjr_det.errors import ConfigError
from ebjr_det.types import FloatArray

AnyLogits = NDArray[np.floating[Any]]


def free_energy(logits: AnyLogits, temperature: float = 1.0) -> FloatArray:
    """Free energy of the input under the student: F(x) = -T logsumexp(f / T).

    Args:
        temperature: T > 0. As T falls to 0 the score approaches `max_logit`.

    Source: Liu et al. 2020 (arXiv 2010.03759), eq. 4; EBJR (arXiv 2110.10343), eq. 4.

    >>> free_energy(np.array([0.0, 0.0])).item() == -np.log(2)
    True
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"Expected `temperature` to be above 0, got {temperature}.")
    return np.asarray(-temperature * logsumexp(_f64(logits) / temperature, axis=-1))


def probability_logsumexp(logits: AnyLogits, dtype: DTypeLike = np.float64) -> FloatArray:
    """What the released EBJR code thresholds: -logsumexp(softmax(f)), not the energy of the logits.

    Its negative lies in [log K + 1/K, log(K - 1 + e)] for K classes and is close to max-softmax.

    Args:
        dtype: float32 reproduces the published tables to the picture; float64 everywhere else.

    Source: github.com/vbdi/ebjr, ebjr.py, `test`.
    """
    probabilities = softmax(np.asarray(logits, dtype=dtype), axis=-1)
    return np.asarray(-logsumexp(probabilities, axis=-1))


def max_softmax(logits: AnyLogits) -> FloatArray:
    """Negative confidence: -max p. Source: Hendrycks & Gimpel 2017 (arXiv 1610.02136)."""
    return np.asarray(-softmax(_f64(logits), axis=-1).max(axis=-1))


def max_logit(logits: AnyLogits) -> FloatArray:
    """Negative largest logit: -max f. Source: Hendrycks et al. 2022 (arXiv 1911.11132)."""
    return np.asarray(-_f64(logits).max(axis=-1))


def entropy(logits: AnyLogits) -> FloatArray:
    """Shannon entropy of p in nats, in [0, log K]. Source: BranchyNet (arXiv 1709.01686)."""
    return np.asarray(entr(softmax(_f64(logits), axis=-1)).sum(axis=-1))


def margin(logits: AnyLogits) -> FloatArray:
    """Runner-up minus winner: p2 - p1, in [-1, 0]; a single class scores -1.

    Source: Scheffer et al. 2001 (doi 10.1007/3-540-44816-0_31).
    """
    probabilities = np.sort(softmax(_f64(logits), axis=-1), axis=-1)
    if probabilities.shape[-1] == 1:
        return -probabilities[..., 0]
    return np.asarray(probabilities[..., -2] - probabilities[..., -1])


def joint_energy(logits: AnyLogits) -> FloatArray:
    """Joint energy of independent sigmoid outputs: -sum_c softplus(f_c).

    Source: Wang et al. 2021 (arXiv 2109.14162), eq. 6.
    """
    return np.asarray(-np.logaddexp(0.0, _f64(logits)).sum(axis=-1))


def random(logits: AnyLogits, seed: int = 0) -> FloatArray:
    """A coin that depends on nothing but the row's bits and the seed: uniform in [0, 1).

    Hashing the logits gives an image the same number in any batch, order or process.
    """
    values = np.ascontiguousarray(_f64(logits))
    key = seed.to_bytes(8, "little", signed=True)
    digests = b"".join(
        hashlib.blake2b(row.tobytes(), digest_size=8, key=key).digest()
        for row in values.reshape(-1, values.shape[-1])
    )
    whole = np.frombuffer(digests, dtype=np.uint64) >> np.uint64(11)
    return (whole * 2.0**-53).reshape(values.shape[:-1])


def _f64(logits: AnyLogits) -> FloatArray:
    return np.asarray(logits, dtype=np.float64)
