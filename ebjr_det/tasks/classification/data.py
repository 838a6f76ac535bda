"""Labelled images: CIFAR's python files, image folders, and scikit-learn's handwritten digits.

An `ImageSet` names its images, knows their labels and loads one at a time. Knows nothing about networks.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebjr_det.config import listed_classes
from ebjr_det.core.errors import SHOWN, ConfigError, InvalidInput, check_known, listed
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say_left_out
from ebjr_det.io.picture_folders import pictures_below
from ebjr_det.io.pictures import open_picture
from ebjr_det.io.subset import part_of
from ebjr_det.tasks.classification.datasets.cifar import load_cifar
from ebjr_det.tasks.unlabelled import named_pictures, picture_folder

if TYPE_CHECKING:
    from PIL import Image

    from ebjr_det.tasks.classification.networks.preprocessing import Picture

DIGITS_TRAINING = 597
PICTURES = "pictures"
"""Name of the data set of a folder's pictures that nobody labelled."""
UNKNOWN = -1
"""The label of an image of which none is known; no answer can be matched with it."""


@dataclass(frozen=True)
class ImageSet:
    """Images by index: distinct ids, class indices, the classes' names, and a function that loads one.

    `load(i)` gives a uint8 array [height, width, 3] or a PIL image in RGB.
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.intp]
    class_names: tuple[str, ...]
    load: Callable[[int], "Picture"]
    skip_unreadable: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_classes(self) -> int:
        """How many classes there are, whether or not an image shows one."""
        return len(self.class_names)

    def target(self, index: int) -> int:
        """The class of an image."""
        return int(self.labels[index])

    def head(self, count: int | None) -> "ImageSet":
        """The first `count` images, or all."""
        if count is None:
            return self
        if count < 1:
            raise ConfigError(f"Expected `limit` of at least 1, got {count}.")
        return replace(self, image_ids=self.image_ids[:count], labels=self.labels[:count])

    def subset(self, images: NDArray[np.intp]) -> "ImageSet":
        """Some images, by index."""
        ids, load = tuple(self.image_ids[i] for i in images), self.load
        return replace(
            self, image_ids=ids, labels=self.labels[images], load=lambda index: load(int(images[index]))
        )


def build_data(
    dataset: str,
    root: str | None = None,
    split: str | None = None,
    verify: bool = True,
    part: Sequence[float] | None = None,
    limit: int | None = None,
    *,
    labels: bool = True,
    classes: list[str] | str | None = None,
) -> ImageSet:
    """A data set by name.

    Args:
        dataset: `cifar10`, `cifar100`, `image_folder` (ImageNet's, Caltech-256's layout), `digits`, or
            `pictures` that nobody labelled.
        root: folder that holds the data; `digits` needs none.
        split: `train` or `test`, the default; for image folders a subfolder, by default `root` itself.
        verify: check CIFAR's published md5 sums.
        part: only a seeded random part, as shares from and to: [0, 0.9] and [0.9, 1] share no image.
        limit: of those only the first images.
        labels: whether the labels are read.
        classes: of `pictures` alone: names of the classes, or a file with a list of them.

    Raises:
        ConfigError: unknown name or split, or no root. InvalidInput: missing, damaged, unsafe or empty data.
    """
    if dataset == PICTURES:
        images = _pictures(root, labels, listed_classes(classes))
    else:
        check_known(dataset, {*SETS, PICTURES}, "a known `dataset`")
        images = SETS[dataset](root, split, verify)
    if not labels:
        images = replace(images, labels=np.full(len(images), UNKNOWN))
    if part is not None:
        images = images.subset(part_of(len(images), part))
    return images.head(limit)


build_named = build_data  # the classes of a data set, for pictures of one's own


def _cifar(name: str, root: str | None, split: str | None, verify: bool) -> ImageSet:
    split = split or "test"
    images, labels, class_names = load_cifar(name, _root(root, name), split, verify)
    ids = tuple(f"{split}-{index:05d}" for index in range(len(labels)))
    return ImageSet(ids, labels, class_names, images.__getitem__)


def _image_folder(root: str | None, split: str | None, verify: bool) -> ImageSet:
    """One subfolder a class, sorted by name, as torchvision's ImageFolder counts and orders them.

    Unlike there, no hidden folder is a class, and what is left out is said on stderr.
    """
    base = _root(root, "image_folder")
    base = base / split if split else base
    if not base.is_dir():
        raise InvalidInput(f"Expected a folder of class folders at `{base}`, got none.")
    classes = sorted(e.name for e in base.iterdir() if e.is_dir() and not e.name.startswith("."))
    pictures, left_out = pictures_below(base)
    ordered = sorted(
        (parts[0], os.path.dirname(path), parts[-1])
        for path, parts in ((str(path), path.relative_to(base).parts) for path in pictures)
        if len(parts) > 1
    )
    left_out["pictures outside of class folders"] = len(pictures) - len(ordered)
    if not ordered:
        raise InvalidInput(f"Expected images in class folders below `{base}`, got none.")
    position = {name: index for index, name in enumerate(classes)}
    labels = np.array([position[name] for name, _, _ in ordered], dtype=np.intp)
    _check_every_class(base, classes, labels)
    say_left_out(base, left_out)
    files = tuple(Path(folder, file).relative_to(base).as_posix() for _, folder, file in ordered)
    ids = tuple(os.fsencode(file).decode("utf-8", "backslashreplace") for file in files)
    return ImageSet(ids, labels, tuple(classes), partial(_picture_at, base, files))


def _pictures(root: str | None, labels: bool, classes: Sequence[str] | None) -> ImageSet:
    if labels:
        raise ConfigError("Expected `data.labels: false` with `pictures`, which nobody labelled, got true.")
    if classes is None:
        raise ConfigError("Expected `data.classes`, names of the models' classes, with `pictures`, got none.")
    folder = picture_folder(root)
    files = named_pictures(folder)
    load = partial(_picture_at, folder, tuple(files.values()))
    return ImageSet(tuple(files), np.full(len(files), UNKNOWN), tuple(classes), load)


def _picture_at(base: Path, files: tuple[str, ...], index: int) -> "Image.Image":
    return open_picture(base / files[index])


def _check_every_class(base: Path, classes: Sequence[str], labels: NDArray[np.intp]) -> None:
    """Raises InvalidInput for class folders without a picture, as torchvision does."""
    empty = sorted(set(classes) - {classes[label] for label in set(labels.tolist())})
    if empty:
        raise InvalidInput(
            f"Expected pictures in every class folder of `{base}`, got none in {len(empty)} of "
            f"{len(classes)}: {listed([f'`{name}`' for name in empty], SHOWN)}. Fill or remove them."
        )


def _digits(root: str | None, split: str | None, verify: bool) -> ImageSet:
    """scikit-learn's 1,797 handwritten digits, 8x8: a seeded 597 for training, 1,200 for testing."""
    from sklearn.datasets import load_digits

    split = split or "test"
    if split not in ("train", "test"):
        raise ConfigError(f"Expected a split of digits, got `{split}`. Valid: test, train.")
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    part = order[:DIGITS_TRAINING] if split == "train" else order[DIGITS_TRAINING:]
    grey = np.rint(bunch.images[part] * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=3)
    ids = tuple(f"digit-{index:04d}" for index in part)
    return ImageSet(ids, bunch.target[part].astype(np.intp), tuple("0123456789"), images.__getitem__)


SETS: dict[str, Callable[[str | None, str | None, bool], ImageSet]] = {
    "cifar10": partial(_cifar, "cifar10"),
    "cifar100": partial(_cifar, "cifar100"),
    "image_folder": _image_folder,
    "digits": _digits,
}


def _root(root: str | None, dataset: str) -> Path:
    if root is None:
        raise ConfigError(f"Expected `data.root`, the folder that holds {dataset}, got none.")
    return Path(root)


def collate(inputs: Sequence[Opaque]) -> Opaque:
    """Preprocessed images as one array or tensor. Raises InvalidInput where their sizes differ."""
    for image in inputs:
        if image.shape != inputs[0].shape:
            raise InvalidInput(
                f"Expected preprocessed images of one size, got {list(inputs[0].shape)} and "
                f"{list(image.shape)}. Set `preprocessing.resize` and `preprocessing.crop`."
            )
    if isinstance(inputs[0], np.ndarray):
        return np.stack(inputs)
    import torch

    return torch.stack(list(inputs))
