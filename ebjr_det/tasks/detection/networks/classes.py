"""Which output of a detector is which class of the data; the same for every detector.

Convention: class indices of the data count from 0, in the order of its category ids. COCO's 90 ids, of which
80 are used, are known here and nowhere above this folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import ConfigError, did_you_mean
from ebjr_det.core.types import Detections, FloatArray, Logits, Output
from ebjr_det.tasks.popular import known_as

COCO_IDS = 90  # from 1; 10 of them were never used
SHOWN = 4  # names in a message
UNUSED = ("__background__", "N/A")  # what torchvision calls those, and what is no object

Found: TypeAlias = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""One image: boxes x1 y1 x2 y2 [n, 4] in original pixels, scores [n], outputs [n], logits [n, outputs]."""


@cache
def coco_names() -> Mapping[int, str]:
    """COCO's category ids and names, as torchvision publishes them with its weights."""
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights

    return dict(enumerate(RetinaNet_ResNet50_FPN_Weights.DEFAULT.meta["categories"]))


def are_coco(categories: Mapping[int, str]) -> bool:
    """Whether ids and names are COCO's, all 80 or some."""
    return all(coco_names().get(key) == name for key, name in categories.items())


def padded(rows: Sequence[NDArray[Any]], classes: int, dtype: Any = np.float32, least: int = 1) -> Logits:
    """Each image's rows of logits, [n, classes], padded to the longest image, to `least` rows at least."""
    values = np.zeros((len(rows), max([least, *map(len, rows)]), classes), dtype=dtype)
    valid = np.zeros(values.shape[:2], dtype=bool)
    for index, own in enumerate(rows):
        values[index, : len(own)], valid[index, : len(own)] = own, True
    return Logits(values, valid)


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
        name: str,
        *,
        background: bool = False,
        told: Sequence[str] | None = None,
    ) -> "ClassMap":
        """Outputs by the names that the network tells; else in the order of the classes, or COCO's by name.

        Args:
            categories: id -> name of the data's classes, by ascending id.
            outputs: how many the network really has, a first one for the background included.
            background: whether the first output is none of the classes.
            told: [outputs] what the network's outputs are called, where its weights come with their names.

        Raises:
            ConfigError: the network does not tell the data's classes apart.
        """
        first = int(background)
        if told is None and outputs - first == len(categories):
            return cls(np.arange(len(categories)) + first, outputs)
        if told is None and outputs - first == COCO_IDS:
            told = list(coco_names().values())[1 - first :]
        if told is None or len(told) != outputs:
            raise ConfigError(
                f"Expected `{name}` to know the {len(categories)} classes of the data, got a detector of "
                f"{outputs - first} classes. Set `num_classes`, and give weights for these classes."
            )
        return cls(_columns(categories, told, name), outputs)

    @property
    def labels(self) -> NDArray[np.intp]:
        """[outputs] the class of the data that each output is, or -1."""
        labels = np.full(self.outputs, -1, dtype=np.intp)
        labels[self.columns] = np.arange(len(self.columns))
        return labels

    def output(
        self,
        found: Sequence[Found],
        support: Sequence[FloatArray] | None = None,
        features: NDArray[np.floating[Any]] | None = None,
    ) -> Output:
        """What the core sees: detections of the data's classes, and their logits, padded.

        Args:
            found: the detector's answers, one an image.
            support: [n] of each image, `Detections.support`, where the detector tells it.
            features: [images, d], `Output.features`, likewise.
        """
        label_of = self.labels
        kept = [
            (boxes[own], scores[own], labels[own], logits[own][:, self.columns], own)
            for boxes, scores, outputs, logits in found
            for labels in (label_of[outputs],)
            for own in (labels >= 0,)
        ]
        predictions = [
            Detections(
                boxes.astype(np.float64),
                scores.astype(np.float64),
                labels,
                None if support is None else support[index][own],
            )
            for index, (boxes, scores, labels, _, own) in enumerate(kept)
        ]
        rows = padded([logits for *_, logits, _ in kept], len(self.columns))
        return Output(predictions, rows, features)


def _columns(categories: Mapping[int, str], told: Sequence[str], name: str) -> NDArray[np.intp]:
    """The output of each class, by name."""
    real = {word: output for output, word in enumerate(told) if word and word not in UNUSED}
    alike: dict[str, set[int]] = {}
    for word, output in real.items():
        alike.setdefault(known_as(word), set()).add(output)
    # a class as it is written goes before one that is known as the same
    found = [
        {real[word]} if word in real else alike.get(known_as(word), set()) for word in categories.values()
    ]
    words = list(zip(categories.values(), found, strict=True))
    strange = [word for word, outputs in words if not outputs]
    if strange:
        few = ", ".join(f"`{word}`" for word in strange[:SHOWN]) + ", ..." * (len(strange) > SHOWN)
        hint = did_you_mean(strange[0], real)
        raise ConfigError(
            f"Expected classes that `{name}` knows, got {few} among the data's {len(categories)}. {hint} "
            "Rename them in the data, or give `num_classes` and weights for these classes."
        )
    for word, outputs in words:
        if len(outputs) > 1:
            several = " and ".join(f"`{told[output]}`" for output in sorted(outputs))
            raise ConfigError(
                f"Expected classes that `{name}` tells apart, got `{word}`, which is {several}."
            )
        if found.count(outputs) > 1:
            raise ConfigError(f"Expected classes of distinct names for `{name}`, got `{word}` twice.")
    return np.array([output for outputs in found for output in outputs], dtype=np.intp)
