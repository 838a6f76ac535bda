"""More than two models: their records, chains of them, and who answers under which thresholds.

Each tier but the last has a deferral score and a threshold. In a *cascade* an image goes from tier to tier,
passed on by each one's own score. In a *leap* the first tier's score alone picks the tier that answers, and
those between are not run. With two tiers both are the pair of `tradeoff`, to the bit.

Convention: `passed` is the share of all images that goes past each tier but the last; it falls along a chain,
and every cost is linear in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from ebjr_det.core.router import decide
from ebjr_det.core.types import FloatArray, Indices, Matches, PairedRun, Task

Topology: TypeAlias = Literal["cascade", "leap"]
MOST_TIERS = 5


@dataclass(frozen=True)
class TieredRun:
    """Several models' records on the same images: everything that an analysis of chains needs.

    Attributes:
        task: the task's registered name.
        image_ids: N distinct strings.
        records: match records of each model by its name, in the order in which images go along.
        scores: by model, all but the last, its own deferral scores by name, each [N] float64.

    Raises InvalidInput as `PairedRun` does.
    """

    task: str
    image_ids: tuple[str, ...]
    records: Mapping[str, Matches]
    scores: Mapping[str, Mapping[str, FloatArray]]

    def __post_init__(self) -> None:
        for lower in self.names[:-1]:
            self.pair(lower, self.names[-1])

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def names(self) -> tuple[str, ...]:
        """The tiers in order."""
        return tuple(self.records)

    def pair(self, lower: str, upper: str) -> PairedRun:
        """Two of the tiers as a student and a teacher."""
        return PairedRun(
            self.task, self.image_ids, self.scores[lower], self.records[lower], self.records[upper]
        )

    def select(self, task: Task, images: Indices) -> "TieredRun":
        """The run on some of its images, by index."""
        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in images),
            records={name: task.take(records, images) for name, records in self.records.items()},
            scores={
                tier: {name: values[images] for name, values in scores.items()}
                for tier, scores in self.scores.items()
            },
        )


@dataclass(frozen=True)
class Chain:
    """Some of a run's tiers in order, and which scores pass images on.

    Attributes:
        scores: of each tier but the last; of a leap the first tier's score, once for each threshold.
    """

    tiers: tuple[str, ...]
    scores: tuple[str, ...] = ()
    topology: Topology = "cascade"

    def values(self, run: TieredRun) -> FloatArray:
        """[tiers - 1, N] the scores that pass images on."""
        senders = self.tiers[:-1] if self.topology == "cascade" else self.tiers[:1] * len(self.scores)
        columns = [run.scores[tier][score] for tier, score in zip(senders, self.scores, strict=True)]
        return np.array(columns).reshape(len(columns), len(run))

    def runs(self, passed: FloatArray) -> FloatArray:
        """[..., tiers] the share of images on which each tier is run.

        >>> Chain(("a", "b", "c"), ("s", "s"), "leap").runs(np.array([0.75, 0.25])).tolist()
        [1.0, 0.5, 0.25]
        """
        shares = np.concatenate([np.ones((*passed.shape[:-1], 1)), passed], axis=-1)
        if self.topology == "leap":
            shares[..., 1:-1] -= passed[..., 1:]
        return shares

    def cost(self, passed: FloatArray, alone: Sequence[float]) -> FloatArray:
        """[...] cost of an image: the sum over tiers of what one costs alone times where it is run.

        >>> Chain(("a", "b", "c"), ("s", "t")).cost(np.array([0.5, 0.25]), [1, 2, 4]).item()
        3.0
        """
        shares = self.runs(passed)
        cost = shares[..., 0] * alone[0]
        for tier in range(1, len(self.tiers)):
            cost = cost + shares[..., tier] * alone[tier]
        return np.asarray(cost)


def answering(values: FloatArray, thresholds: Sequence[float]) -> Indices:
    """[N] the tier that answers each image: the first whose score is not above its threshold, else the last.

    >>> answering(np.array([[1.0, 3.0, 3.0], [9.0, 1.0, 5.0]]), [2.0, 4.0]).tolist()
    [0, 1, 2]
    """
    tier, reaching = np.zeros(values.shape[1], dtype=np.intp), np.ones(values.shape[1], dtype=bool)
    for score, threshold in zip(values, thresholds, strict=True):
        reaching = reaching & decide(score, threshold).defer
        tier += reaching
    return tier
