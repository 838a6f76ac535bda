"""A fitted regression forest as plain arrays, so that a file of it is numbers and no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.io.compiled import compiled

_KINDS: Mapping[str, Any] = {
    "roots": np.integer,
    "feature": np.integer,
    "limit": np.floating,
    "low": np.integer,
    "high": np.integer,
    "value": np.floating,
}


@dataclass(frozen=True)
class Forest:
    """Trees of scikit-learn, their nodes one after another.

    Attributes:
        roots: [trees] index of each tree's first node.
        feature: [nodes] column that a node asks about.
        limit: [nodes] go to `low` where the value is at most this, else to `high`; float64, as scikit-learn.
        low, high: [nodes] index of the next node, always further on; of a leaf the leaf itself.
        value: [nodes] prediction of a leaf.
        columns: how many features a row has.
    """

    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    limit: FloatArray
    low: NDArray[np.int32]
    high: NDArray[np.int32]
    value: NDArray[np.float32]
    columns: int

    @classmethod
    def of(cls, ensemble: Any) -> "Forest":
        """The trees of a fitted scikit-learn ensemble of one output."""
        trees = [estimator.tree_ for estimator in ensemble.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]

        def joined(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(tree, name).reshape(tree.node_count, -1)[:, 0] for tree in trees])

        own = np.arange(sum(tree.node_count for tree in trees))
        leaf = joined("children_left") < 0

        def nodes(name: str) -> NDArray[np.int32]:
            shift = np.repeat(roots, [tree.node_count for tree in trees])
            return np.where(leaf, own, joined(name) + shift).astype(np.int32)

        return cls(
            roots.astype(np.int32),
            np.where(leaf, 0, joined("feature")).astype(np.int16),
            joined("threshold").astype(np.float64),
            nodes("children_left"),
            nodes("children_right"),
            joined("value").astype(np.float32),
            int(ensemble.n_features_in_),
        )

    def predict(self, rows: NDArray[np.float32]) -> FloatArray:
        """Mean over the trees, [n, columns] -> float64 [n]."""
        own = (self.roots, self.feature, self.limit, self._children, self.value)
        out = np.empty(len(rows))
        _walk(*own, np.ascontiguousarray(rows), out)
        return out

    @cached_property
    def _children(self) -> NDArray[np.int32]:
        """[nodes, 2] `low` and `high` side by side, where a processor finds both at once."""
        return np.stack([self.low, self.high], axis=1)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Named arrays; `of_arrays` takes them back."""
        own: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _KINDS}
        return {**own, "columns": np.array(self.columns, dtype=np.int32)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Forest":
        """What `to_arrays` gave.

        Raises:
            KeyError: an array is missing.
            InvalidInput: arrays that are no forest: an edge that leads nowhere or back, a column that no row
                has, a number that is not finite, another shape or type.
        """
        forest = cls(*(arrays[name] for name in _KINDS), int(arrays["columns"]))  # type: ignore
        count = len(forest.feature)
        place = np.arange(count)
        leaf = (forest.low == place) & (forest.high == place) if len(forest.low) == count else place < 0
        sound = (
            all(np.issubdtype(arrays[name].dtype, kind) for name, kind in _KINDS.items())
            and {arrays[name].shape for name in _KINDS if name != "roots"} == {(count,)}
            and forest.roots.ndim == 1
            and len(forest.roots) > 0
            and ((forest.roots >= 0) & (forest.roots < count)).all()
            and ((forest.feature >= 0) & (forest.feature < forest.columns)).all()
            and all((leaf | (edge > place) & (edge < count)).all() for edge in (forest.low, forest.high))
            and np.isfinite(forest.limit).all()
            and np.isfinite(forest.value).all()
        )
        if not sound:
            raise InvalidInput(
                "Expected the arrays of a forest, got edges, columns or numbers that are none."
            )
        return forest


@compiled(nogil=True)
def _walk(roots, feature, limit, children, value, rows, out):  # type: ignore[no-untyped-def]
    """Fill `out` [n] with the mean over the trees of the leaf that each row ends in.

    All rows go down a tree side by side, a level at a time, with no branch for a processor to guess wrong.
    """
    node = np.empty(len(rows), dtype=np.int32)
    out[:] = 0.0
    for root in roots:
        node[:] = root
        moved = 1
        while moved:
            moved = 0
            for n in range(len(rows)):
                here = node[n]
                there = children[here, int(rows[n, feature[here]] > limit[here])]
                moved |= there - here
                node[n] = there
        for n in range(len(rows)):
            out[n] += value[node[n]] / len(roots)
