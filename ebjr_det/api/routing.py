"""From the settings of a router to its scores and its default decision."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ebjr_det.config import RouterSection
from ebjr_det.router import decide, threshold_for_rate
from ebjr_det.scores import SCORES, deferral_scores, get_score
from ebjr_det.types import FloatArray, Logits, PairedRun, RouterDecision

DEFAULT_RATE = 0.3
"""Deferral rate of the chosen point when neither a threshold nor a target is given; needs no label."""


def scores_function(router: RouterSection) -> Callable[[Logits], dict[str, FloatArray]]:
    """All registered scores, the deciding one with its options; wrong names and options fail here."""
    get_score(router.score)
    functions = {name: score_function(router, name) for name in SCORES}

    def scores(logits: Logits) -> dict[str, FloatArray]:
        return {name: function(logits) for name, function in functions.items()}

    scores(Logits.one_row(np.zeros((1, 2))))
    return scores


def score_function(router: RouterSection, name: str) -> Callable[[Logits], FloatArray]:
    """One registered score with the router's settings; its options go to the deciding score alone."""
    options = router.options if name == router.score else {}
    return partial(deferral_scores, name=name, top_k=router.top_k, aggregate=router.aggregate, **options)


def at_rate(run: PairedRun, score: str, rate: float) -> RouterDecision:
    """The decision that defers at most a share of the images; needs no label."""
    values = run.scores[score]
    return decide(values, threshold_for_rate(values, rate))
