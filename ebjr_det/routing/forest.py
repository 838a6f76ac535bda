"""A fitted regression forest as plain arrays, so that a file of it is numbers and no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, FloatArray
from ebjr_det.io.compiled import compiled

_KINDS: Mapping[str, type[np.integer] | type[np.floating]] = {
    "roots": np.integer, "feature": np.integer, "limit": np.floating,
    "low": np.integer, "high": np.integer, "value": np.floating,
}  # fmt: skip


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
        counts = [tree.node_count for tree in trees]
        roots = np.cumsum([0, *counts])[:-1]

        def joined(name: str) -> Array:
            return np.concatenate([getattr(tree, name).reshape(tree.node_count, -1)[:, 0] for tree in trees])

        leaf = joined("children_left") < 0

        def nodes(name: str) -> NDArray[np.int32]:
            """Children counted over all trees; a leaf is its own child, so that a walk stays there."""
            children = joined(name) + np.repeat(roots, counts)
            return np.where(leaf, np.arange(len(leaf)), children).astype(np.int32)

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
        means = np.empty(len(rows))
        tree = (self.roots, self.feature, self.limit, self._children, self.value)
        _walk(*tree, np.ascontiguousarray(rows), means)
        return means

    @cached_property
    def _children(self) -> NDArray[np.int32]:
        """[nodes, 2] `low` and `high` side by side, where a processor finds both at once."""
        return np.stack([self.low, self.high], axis=1)

    def to_arrays(self) -> dict[str, Array]:
        """Named arrays; `of_arrays` takes them back."""
        arrays: dict[str, Array] = {name: getattr(self, name) for name in _KINDS}
        return {**arrays, "columns": np.array(self.columns, dtype=np.int32)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array]) -> "Forest":
        """The forest that gave these arrays.

        Raises:
            KeyError: an array is missing.
            InvalidInput: arrays that are no forest: an edge that leads nowhere or back, a column that no row
                has, a number that is not finite, another shape or type.
        """
        forest = cls(*(arrays[name] for name in _KINDS), int(arrays["columns"]))  # type: ignore
        if not forest._is_sound():
            raise InvalidInput(
                "Expected the arrays of a forest, got edges, columns or numbers that are none."
            )
        return forest

    def _is_sound(self) -> bool:
        """Whether every walk ends, within the arrays, in a finite number."""
        count = len(self.feature)
        if not all(np.issubdtype(getattr(self, name).dtype, kind) for name, kind in _KINDS.items()):
            return False
        if {getattr(self, name).shape for name in _KINDS if name != "roots"} != {(count,)}:
            return False
        node = np.arange(count)
        leaf = (self.low == node) & (self.high == node)
        return bool(
            self.roots.ndim == 1
            and len(self.roots) > 0
            and ((self.roots >= 0) & (self.roots < count)).all()
            and ((self.feature >= 0) & (self.feature < self.columns)).all()
            and all((leaf | (edge > node) & (edge < count)).all() for edge in (self.low, self.high))
            and np.isfinite(self.limit).all()
            and np.isfinite(self.value).all()
        )


@compiled(nogil=True)
def _walk(roots, feature, limit, children, value, rows, means):  # type: ignore[no-untyped-def]
    """Fill `means` [n] with the mean over the trees of the leaf that each row ends in.

    All rows go down a tree side by side, a level at a time, with no branch for a processor to guess wrong.
    """
    nodes = np.empty(len(rows), dtype=np.int32)
    means[:] = 0.0
    for root in roots:
        nodes[:] = root
        moved = 1
        while moved:  # a leaf is its own child, so a level on which nobody moves is below the tree
            moved = 0
            for row in range(len(rows)):
                node = nodes[row]
                # 0 or 1 picks the child: an index, where an `if` would be a branch
                child = children[node, int(rows[row, feature[node]] > limit[node])]
                moved |= child - node
                nodes[row] = child
        for row in range(len(rows)):
            means[row] += value[nodes[row]] / len(roots)
