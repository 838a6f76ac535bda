"""Classifiers that lie in ONNX files of other tools; run without torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Array, Opaque
from ebjr_det.runtimes.graph_file import GraphFile, RunsFile, shapes_of
from ebjr_det.runtimes.registry import Column, stacked
from ebjr_det.tasks.classification.networks.classifier import Classifier, Surroundings
from ebjr_det.tasks.classification.networks.preprocessing import Picture, Preprocessing

LEAST = 2.0**-149
"""The smallest number above 0 of float32."""


class OnnxClassifier(RunsFile, Classifier):
    """A classifier of an ONNX file in ONNX Runtime, until it is given another runtime.

    Args:
        columns: the output of each class of the data; None where they stand in its order.
        probabilities: whether the file gives these: logits are then known but for a constant of each image.
    """

    def __init__(
        self,
        name: str,
        file: GraphFile,
        preprocessing: Preprocessing,
        size: tuple[int, int],
        columns: Sequence[int] | None,
        probabilities: bool,
    ) -> None:
        self.file, self.size, self.runtime = file, size, "onnxruntime"
        self.columns, self.probabilities = columns, probabilities
        super().__init__(name, preprocessing, file.open(size))

    @property
    def around(self) -> Surroundings | None:
        """What surrounds the graph as numbers, or None where its outputs are turned or changed by code."""
        plain = self.columns is None and not self.probabilities
        return Surroundings(self.preprocess) if plain and isinstance(self.preprocess, Preprocessing) else None

    def forward(self, inputs: Sequence[Opaque]) -> tuple[Column, ...]:
        """Logits in the order of the data's classes."""
        batch: Opaque = np.stack([np.asarray(picture) for picture in inputs])
        values = stacked(self.run(self.batch(batch))[0]).astype(np.float32)
        if self.probabilities:
            values = np.log(np.maximum(values, np.float32(LEAST)))
        return (values if self.columns is None else values[:, list(self.columns)],)

    def facts(self, image: Picture) -> Mapping[str, object]:
        """What the file gives."""
        return {"image_size": list(self.size), "head": "probabilities" if self.probabilities else "logits"}


def check_classifier(file: GraphFile, raw: Sequence[Array]) -> bool:
    """Whether a file gives probabilities. Raises InvalidInput for outputs that are no classifier's."""
    if (
        file.metadata.get("task", "classify") != "classify"
        or [output.ndim for output in raw] != [2]
        or (not raw[0].size)
    ):
        kind = (
            "a detector" if any(output.ndim == 3 for output in raw) else file.metadata.get("task", "others")
        )
        raise InvalidInput(
            f"Expected a classifier in `{file.path}`, got {kind}: {shapes_of(file.outputs, raw)}."
        )
    values = raw[0].astype(np.float64)
    return bool(values.min() >= 0 and np.allclose(values.sum(axis=1), 1, atol=1e-3))
