"""Which output of a detector is which class of the data; the same for every detector.

Convention: class indices of the data count from 0, in the order of its category ids. COCO's 90 ids, of which
80 are used, are known here and nowhere above this folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy.special import logsumexp

from ebjr_det.core.errors import ConfigError, did_you_mean, listed
from ebjr_det.core.types import Array, FloatArray, Logits, Output
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.popular import known_as
from ebjr_det.tasks.weights import library_names

COCO_IDS = 90  # from 1; 10 of them were never used
EXAMPLES = 4  # names in a message
UNUSED = ("__background__", "N/A")  # what torchvision calls those, and what is no object

Answer: TypeAlias = tuple[Array, Array, Array, Array]
"""One image: boxes x1 y1 x2 y2 [n, 4] in original pixels, scores [n], outputs [n], logits [n, outputs]."""


@cache
def coco_names() -> Mapping[int, str]:
    """COCO's category ids and names, as torchvision publishes them with its weights."""
    return dict(enumerate(library_names("retinanet_resnet50_fpn")))


def are_coco(categories: Mapping[int, str]) -> bool:
    """Whether ids and names are COCO's, all 80 or some."""
    return all(coco_names().get(key) == name for key, name in categories.items())


def padded(rows: Sequence[Array], classes: int, dtype: DTypeLike = np.float32, least: int = 1) -> Logits:
    """Each image's rows of logits, [n, classes], one sigmoid a class; padded to the longest image, to `least`
    rows at least.
    """
    values = np.zeros((len(rows), max([least, *map(len, rows)]), classes), dtype=dtype)
    valid = np.zeros(values.shape[:2], dtype=bool)
    for index, logits in enumerate(rows):
        values[index, : len(logits)], valid[index, : len(logits)] = logits, True
    return Logits(values, valid, "sigmoid")


@dataclass(frozen=True)
class ClassMap:
    """A detector's outputs as classes of the data.

    Attributes:
        columns: [classes] the output of each class of the data.
        outputs: how many the detector has; those that are no class are left out, of logits and of boxes.
    """

    columns: NDArray[np.intp]
    outputs: int

    @classmethod
    def of(
        cls,
        categories: Mapping[int, str],
        outputs: int,
        label: str,
        *,
        background: bool = False,
        output_names: Sequence[str] | None = None,
    ) -> "ClassMap":
        """Outputs by the names that the network tells; else in the order of the classes, or COCO's by name.

        Args:
            categories: id -> name of the data's classes, by ascending id.
            outputs: how many the network really has, a first one for the background included.
            background: whether the first output is none of the classes.
            output_names: [outputs] where the network's weights come with their names.

        Raises:
            ConfigError: the network does not tell the data's classes apart.
        """
        first = int(background)
        if output_names is None and outputs - first == len(categories):
            return cls(np.arange(len(categories)) + first, outputs)
        if output_names is None and outputs - first == COCO_IDS:
            output_names = list(coco_names().values())[1 - first :]
        if output_names is None or len(output_names) != outputs:
            raise ConfigError(
                f"Expected `{label}` to know the {len(categories)} classes of the data, got a detector of "
                f"{outputs - first} classes. Set `num_classes`, and give weights for these classes."
            )
        return cls(_columns(categories, output_names, label), outputs)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "ClassMap":
        """What `to_dict` gave. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(np.array(fields["columns"], dtype=np.intp), fields["outputs"])

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {"columns": self.columns.tolist(), "outputs": self.outputs}

    @property
    def sound(self) -> bool:
        """Whether every class has an output of its own."""
        columns, outputs = self.columns, self.outputs
        distinct = columns.ndim == 1 and len(set(columns.tolist())) == len(columns) > 0
        return distinct and type(outputs) is int and bool(0 <= columns.min() <= columns.max() < outputs)

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """[outputs] the class of the data that each output is, or -1."""
        labels = np.full(self.outputs, -1, dtype=np.intp)
        labels[self.columns] = np.arange(len(self.columns))
        return labels

    def output(
        self,
        answers: Sequence[Answer],
        supports: Sequence[FloatArray] | None = None,
        features: NDArray[np.floating] | None = None,
        *,
        softmax: bool = False,
    ) -> Output:
        """What the core sees: detections of the data's classes, and their logits, padded.

        Args:
            softmax: the head is one softmax over all outputs; those that are no class of the data are then
                together its background.
            supports: [n] of each image, `Detections.support`, where the detector tells it.
            features: [images, d], `Output.features`, likewise.
        """
        label_of, predictions, rows, backgrounds = self.labels, [], [], []
        rest = label_of < 0
        for image, (boxes, scores, outputs, row_logits) in enumerate(answers):
            labels = label_of[outputs]
            real = labels >= 0
            support = None if supports is None else supports[image][real]
            boxes, scores = boxes[real].astype(np.float64), scores[real].astype(np.float64)
            predictions.append(Detections(boxes, scores, labels[real], support))
            untold = row_logits.shape[1] < self.outputs  # a network that tells a box's own logit alone
            rows.append(row_logits[real] if untold else row_logits[real][:, self.columns])
            if softmax:
                backgrounds.append(logsumexp(row_logits[real][:, rest], axis=1, keepdims=True))
        logits = padded(rows, rows[0].shape[1])
        if softmax:
            background = padded(backgrounds, 1).values[..., 0]
            logits = replace(logits, head="softmax", background=background)
        return Output(predictions, logits, features)


def _columns(categories: Mapping[int, str], output_names: Sequence[str], label: str) -> NDArray[np.intp]:
    """The output of each class, by name."""
    exact = {name: output for output, name in enumerate(output_names) if name and name not in UNUSED}
    folded: dict[str, set[int]] = {}
    for name, output in exact.items():
        folded.setdefault(known_as(name), set()).add(output)
    # a class as it is written goes before one that is known as the same
    matches = [
        {exact[name]} if name in exact else folded.get(known_as(name), set()) for name in categories.values()
    ]
    pairs = list(zip(categories.values(), matches, strict=True))
    strange = [name for name, outputs in pairs if not outputs]
    if strange:
        names = listed([f"`{name}`" for name in strange], EXAMPLES)
        raise ConfigError(
            f"Expected classes that `{label}` knows, got {names} among the data's {len(categories)}. "
            f"{did_you_mean(strange[0], exact)} "
            "Rename them in the data, or give `num_classes` and weights for these classes."
        )
    for name, outputs in pairs:
        if len(outputs) > 1:
            names = " and ".join(f"`{output_names[output]}`" for output in sorted(outputs))
            raise ConfigError(f"Expected classes that `{label}` tells apart, got `{name}`, which is {names}.")
        if matches.count(outputs) > 1:
            raise ConfigError(f"Expected classes of distinct names for `{label}`, got `{name}` twice.")
    return np.array([output for outputs in matches for output in outputs], dtype=np.intp)
