"""The decision that reaches a deferral rate, and the rate where none is asked for; no label is looked at."""

from ebjr_det.core.router import RouterDecision, decide, threshold_for_rate
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import PairedRun

DEFAULT_RATE = 0.3
"""Deferral rate of the chosen point when neither a threshold nor a target is given; needs no label."""


def default_rate(run: PairedRun) -> float:
    """What is deferred where nothing is asked for: 0.3 of the images that the student answers itself.

    A specialised student's "other" all goes to the teacher.
    """
    handed_on = 0.0 if run.abstains is None else float(run.abstains.mean())
    return handed_on + DEFAULT_RATE * (1 - handed_on)


def at_rate(run: PairedRun, score: str, rate: float) -> RouterDecision:
    """The decision that defers at most a share of the images; needs no label.

    Raises:
        ConfigError: the run has no such score.
    """
    values = score_of(run, score)
    return decide(values, threshold_for_rate(values, rate))
