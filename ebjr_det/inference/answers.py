"""A model's answers to pictures, preprocessing and all."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import numpy as np

from ebjr_det.config.sections import RunSection
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import Model, Output
from ebjr_det.tasks.contract import DataSet, Picture

OnPictures: TypeAlias = Callable[[Sequence[Picture]], Output]
"""A model on pictures, preprocessing and all."""


def sample_answers(student: Model, data: DataSet, count: int, run: RunSection) -> list[Output]:
    """A student's answers to so many images of a set, at most, drawn at random with the seed."""
    sample = np.random.default_rng(run.seed).permutation(len(data))[:count]
    return answers_to(student, data, sample.tolist(), run.batch_size)[1]


def answers_to(
    student: Model, data: DataSet, indices: Sequence[int], batch_size: int
) -> tuple[list[int], list[Output]]:
    """Which of some images of a set can be read, and a student's answers to these, in batches."""
    images: dict[int, Picture] = {}
    for index in indices:
        with suppress(InvalidInput):  # one that cannot be read is named when its turn comes
            images[index] = data.load(index)
    answer, pictures = on_pictures(student), list(images.values())
    starts = range(0, len(pictures), batch_size)
    return list(images), [answer(pictures[at : at + batch_size]) for at in starts]


def on_pictures(model: Model) -> OnPictures:
    """A function of pictures that preprocesses them for a model and gives its answers."""
    return lambda images: model([model.preprocess(image) for image in images])
