"""A fitted router of classifiers: a forest on the deferral scores of the student's logits.

It predicts what the teacher's answer adds, right minus right, in [-1, 1]. Its columns are registered scores,
so a saved run holds all that it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import Array, FloatArray, Matches, Output, PairedRun
from ebjr_det.routing.forest import Forest
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.routing import A_FITTED_ROUTER, Routing, TaskScore, fit_forest

LEARNED = "learned"
COLUMNS = ("free_energy", "max_softmax", "max_logit", "entropy", "margin", "joint_energy")
LEAF = 50  # rows at least


@dataclass(frozen=True)
class ClassificationRouter:
    """The forest, or None where nothing was learned."""

    forest: Forest | None
    features: ClassVar[int] = 0

    def scores(self, output: Output) -> dict[str, FloatArray]:
        """Predicted gain of each image, [images]."""
        return self._learned({name: deferral_scores(output.logits, name) for name in COLUMNS})

    def scores_of_set(self, run: PairedRun, only: str = "") -> dict[str, FloatArray]:
        """Predicted gains from a run's own scores."""
        return self._learned(run.scores)

    def score(self, name: str, output: Output) -> FloatArray:
        """One of `scores` alone, for the live pair."""
        return self.scores(output)[name]

    def rescale(self, output: Output) -> Output:
        """The output as it is: accuracy does not rank the answers of different images."""
        return output

    def rescale_records(self, matches: Matches) -> Matches:
        """The records as they are."""
        return matches

    def _learned(self, scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        if self.forest is None:
            return {}
        return {LEARNED: self.forest.predict(_table(scores))}

    def to_arrays(self) -> dict[str, Array]:
        """Named arrays; `load_router` takes them back."""
        return {} if self.forest is None else self.forest.to_arrays()


class ClassificationRouting(Routing):
    """Scores of logits, and a forest on them that predicts what the teacher adds."""

    SCORES: ClassVar = {
        LEARNED: TaskScore(
            "predicted right answers that the teacher adds",
            "extremely randomised trees on scores",
            needs=A_FITTED_ROUTER,
        )
    }
    INPUT_SCORES = COLUMNS

    def load_router(self, arrays: Mapping[str, Array]) -> ClassificationRouter:
        """What `to_arrays` gave. Raises InvalidInput for arrays that are no such router."""
        try:
            forest = Forest.of_arrays(arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"Expected the numbers of a classification router, got: {first_line(error)}."
            ) from error
        if forest.columns != len(COLUMNS):
            raise InvalidInput(f"Expected a forest of {len(COLUMNS)} columns, got {forest.columns}.")
        return ClassificationRouter(forest)

    def fit_router(
        self, run: PairedRun, *, rescaling: str, worth: FloatArray, seed: int = 0, learn: bool = True
    ) -> ClassificationRouter:
        """Fit on a run: its scores, and which model is right; `rescaling` and `worth` change nothing."""
        if not learn:
            return ClassificationRouter(None)
        reward = Accuracy().mixtures(run.student, run.teacher).reward()
        return ClassificationRouter(fit_forest(_table(run.scores), reward, seed, LEAF))

    def judge(self, worth: FloatArray) -> Accuracy:
        """Accuracy, which weighs every image alike."""
        return Accuracy()


def _table(scores: Mapping[str, FloatArray]) -> NDArray[np.float32]:
    missing = [name for name in COLUMNS if name not in scores]
    if missing:
        raise InvalidInput(
            f"Expected a run with the score `{missing[0]}`, got none. Evaluate or replay again."
        )
    return np.stack([scores[name] for name in COLUMNS], axis=1).astype(np.float32)
