"""The part of a task that knows its own deferral scores and fits its routers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import Array, FloatArray, Output, PairedRun, Task
from ebjr_det.routing.crossfit import FittedRouter

if TYPE_CHECKING:
    from ebjr_det.routing.forest import Forest

A_FITTED_ROUTER, CLASS_COUNTS = "a fitted router", "class counts"
TREES = 150


@dataclass(frozen=True)
class TaskScore:
    """A deferral score that belongs to one task, beside those of logits that serve every task.

    Attributes:
        formula, source: what it computes, and where that comes from.
        needs: `A_FITTED_ROUTER`, `CLASS_COUNTS`, or empty.
        whole_set: it changes with the other pictures at hand, so it serves offline only.
        candidates: it looks at a model's raw candidates, which records do not keep.
        features: it looks at the student's features; see `types.Output`.
    """

    formula: str
    source: str
    needs: str = ""
    whole_set: bool = False
    candidates: bool = False
    features: bool = False


class Routing:
    """The part that knows the task's own deferral scores and fits its routers.

    This one is of a task whose scores are those of logits alone, and of which no router can be fitted.
    """

    SCORES: ClassVar[Mapping[str, TaskScore]] = {}
    RESCALINGS: ClassVar[tuple[str, ...]] = ("none",)
    SELECTS_BY: ClassVar[str] = "max_softmax"
    """The score by which rescalings are compared before anything is learned."""
    INPUT_SCORES: ClassVar[tuple[str, ...]] = ()
    """Scores of logits that a learned router sees."""
    VARIANTS: ClassVar[Mapping[str, tuple[str, Mapping[str, Any]]]] = {}
    """Further scores that a fit tries: name -> score of logits and its settings."""
    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Names that scores had in earlier versions -> those of today."""
    RETIRED: ClassVar[Mapping[str, str]] = {}
    """Names of scores that are no more -> what to do instead."""
    PUBLISHED_GAP: ClassVar[Mapping[float, float]] = {}
    """Deferral rate -> share of the gap between student and teacher that EBJR claims, where it claims any."""

    def load_router(self, arrays: Mapping[str, Array]) -> FittedRouter:
        """What `FittedRouter.to_arrays` gave. Raises InvalidInput for arrays that are no such router."""
        self._refuse()

    def fit_router(
        self, run: PairedRun, *, rescaling: str, worth: FloatArray, seed: int = 0, learn: bool = True
    ) -> FittedRouter:
        """A router fitted on a run; without `learn` by counts alone."""
        self._refuse()

    def check_worth(self, worth: Mapping[str, float], class_names: Sequence[str]) -> FloatArray:
        """What each class weighs in the metric. Raises ConfigError for unknown classes or useless weights."""
        if worth:
            raise ConfigError(
                "Expected no class weights for a mean over images, got some: it weighs every image alike."
            )
        return np.ones(1)

    def judge(self, worth: FloatArray) -> Task:
        """The task, judging by what classes are worth."""
        self._refuse()

    def plain_scores(self, output: Output, class_names: Sequence[str]) -> dict[str, FloatArray]:
        """Every one of `SCORES` that needs no fit, of each picture on its own."""
        return {}

    def plain_scores_of_set(self, run: PairedRun, class_names: Sequence[str]) -> dict[str, FloatArray]:
        """Every one of `SCORES` that needs no fit, from records, those of whole sets too."""
        return {}

    def plain_score(self, name: str, output: Output, class_names: Sequence[str]) -> FloatArray:
        """One of `plain_scores` alone, for the live pair."""
        return self.plain_scores(output, class_names)[name]

    def has_class_counts(self, class_names: Sequence[str]) -> bool:
        """Whether class counts of these classes were published."""
        return False

    def features_of(self, output: Output) -> NDArray[np.float32] | None:
        """[images, columns] what a run keeps of a student's answers for learned routers."""
        return None

    def fingerprints(self, run: PairedRun) -> FloatArray:
        """[N] a number of each picture, by which it is known again: a hash of the student's logits."""
        return run.scores["random"]

    def fingerprints_ahead(self, data: Any) -> FloatArray | None:
        """[N] `fingerprints` of a data set before any model has seen it; None where answers are needed."""
        return None

    def student_numbers(self, run: PairedRun) -> FloatArray:
        """A sample of a student's energies, by which another student is told: 1,001 quantiles."""
        return np.asarray(np.quantile(run.scores["free_energy"], np.linspace(0, 1, 1001)))

    def answer_numbers(self, output: Output) -> FloatArray:
        """The energies of a batch of answers, of which `student_numbers` is a sample."""
        return deferral_scores(output.logits, "free_energy")

    def _refuse(self) -> NoReturn:
        raise ConfigError("Expected a task of which routers can be fitted, got one of which none can.")


def fit_forest(
    rows: NDArray[np.float32], targets: FloatArray, seed: int, leaf: int, share: float = 1.0
) -> "Forest":
    """`TREES` extremely randomised trees (Geurts et al. 2006) from rows to targets.

    Args:
        leaf: least rows of a leaf; share: of the columns that a split sees.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    from ebjr_det.routing.forest import Forest

    trees = ExtraTreesRegressor(
        TREES, min_samples_leaf=leaf, max_features=share, n_jobs=-1, random_state=seed
    )
    return Forest.of(trees.fit(np.asfortranarray(rows), targets))  # a split reads columns
