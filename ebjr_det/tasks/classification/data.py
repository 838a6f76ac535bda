"""Labelled images: CIFAR's python files, image folders, and scikit-learn's handwritten digits.

An `ImageSet` names its images, knows their labels and loads one at a time. Knows nothing about networks.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ebjr_det.errors import ConfigError, InvalidInput, did_you_mean, first_line
from ebjr_det.files import checksum, existing_file
from ebjr_det.pictures import SUFFIXES
from ebjr_det.tasks.classification.unpickle import PlainUnpickler

CIFAR_FILES = {
    # name: (folder, files by split with md5, key of the labels)
    "cifar10": (
        "cifar-10-batches-py",
        {
            "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
            "train": {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
        },
        b"labels",
        10,
    ),
    "cifar100": (
        "cifar-100-python",
        {
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        },
        b"fine_labels",
        100,
    ),
}
CIFAR_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
DIGITS_TRAINING = 597


@dataclass(frozen=True)
class ImageSet:
    """Images by index: distinct ids, class indices, and a function that loads one.

    `load(i)` gives a uint8 array [height, width, 3] or a PIL image in RGB.
    """

    image_ids: tuple[str, ...]
    labels: NDArray[np.intp]
    num_classes: int
    load: Callable[[int], Any]
    skip_unreadable: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.image_ids)

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


def build_data(
    dataset: str,
    root: str | None = None,
    split: str | None = None,
    verify: bool = True,
    limit: int | None = None,
) -> ImageSet:
    """A data set by name.

    Args:
        dataset: `cifar10`, `cifar100`, `image_folder` (ImageNet's, Caltech-256's layout) or `digits`.
        root: folder that holds the data; `digits` needs none.
        split: `train` or `test`, the default; for image folders a subfolder, by default `root` itself.
        verify: check CIFAR's published md5 sums.
        limit: only the first images.

    Raises:
        ConfigError: unknown name or split, or no root.
        InvalidInput: missing, damaged, unsafe or empty data.
    """
    if dataset not in SETS:
        raise ConfigError(f"Expected a known `dataset`, got `{dataset}`. {did_you_mean(dataset, SETS)}")
    return SETS[dataset](root, split, verify).head(limit)


build_named = build_data  # the classes of a data set, for pictures of one's own


def _cifar(name: str, root: str | None, split: str | None, verify: bool) -> ImageSet:
    split = split or "test"
    folder, splits, label_key, num_classes = CIFAR_FILES[name]
    if split not in splits:
        raise ConfigError(f"Expected a split of {name}, got `{split}`. {did_you_mean(split, splits)}")
    pixels, labels = [], []
    for file, md5 in splits[split].items():
        path = existing_file(_root(root, name) / folder / file, f"{name} (from {CIFAR_SOURCE})")
        if verify and checksum(path, "md5") != md5:
            raise InvalidInput(
                f"Expected md5 {md5} for `{path}`, got {checksum(path, 'md5')}. "
                f"Fetch it again from {CIFAR_SOURCE}, or set data.verify=false for a file of your own."
            )
        batch = _unpickle(path)
        pixels.append(_array(batch.get(b"data"), path))
        labels.append(_label_list(batch.get(label_key), len(pixels[-1]), num_classes, path))
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    classes = np.concatenate(labels)
    return ImageSet(_numbered(f"{split}-", len(images)), classes, num_classes, images.__getitem__)


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        with path.open("rb") as opened:
            batch = PlainUnpickler(opened, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise InvalidInput(
            f"Expected a CIFAR python file at `{path}`, got one that is damaged or unsafe: {error}."
        ) from error
    if not isinstance(batch, dict):
        raise InvalidInput(f"Expected a CIFAR python file at `{path}`, got {type(batch).__name__}.")
    return {key: getattr(value, "pixels", value) for key, value in batch.items()}


def _array(data: Any, path: Path) -> NDArray[np.uint8]:
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3072,)):
        raise InvalidInput(f"Expected uint8 data [images, 3072] in `{path}`, got something else.")
    return data


def _label_list(labels: Any, images: int, num_classes: int, path: Path) -> NDArray[np.intp]:
    whole = isinstance(labels, list) and all(type(label) is int for label in labels)
    if not whole or len(labels) != images or not images:
        raise InvalidInput(f"Expected {images or 'some'} labels, whole numbers, in `{path}`, got others.")
    if min(labels) < 0 or max(labels) >= num_classes:
        raise InvalidInput(
            f"Expected labels in 0..{num_classes - 1} in `{path}`, got {min(labels)}..{max(labels)}."
        )
    return np.array(labels, dtype=np.intp)


def _image_folder(root: str | None, split: str | None, verify: bool) -> ImageSet:
    """One subfolder a class, sorted by name, as torchvision's ImageFolder counts them."""
    base = _root(root, "image_folder")
    base = base / split if split else base
    if not base.is_dir():
        raise InvalidInput(f"Expected a folder of class folders at `{base}`, got none.")
    classes = sorted(entry.name for entry in base.iterdir() if entry.is_dir())
    found = [
        (path, index)
        for index, name in enumerate(classes)
        for folder, _, files in sorted(os.walk(base / name))
        for path in (Path(folder) / file for file in sorted(files))
        if path.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise InvalidInput(f"Expected images in class folders below `{base}`, got none.")
    ids = tuple(path.relative_to(base).as_posix() for path, _ in found)
    labels = np.array([index for _, index in found], dtype=np.intp)
    return ImageSet(ids, labels, len(classes), partial(_open_image, base, ids))


def _open_image(base: Path, ids: tuple[str, ...], index: int) -> Any:
    from PIL import Image

    try:
        with Image.open(base / ids[index]) as image:
            return image.convert("RGB")
    except Exception as error:  # a damaged picture can raise anything
        raise InvalidInput(
            f"Expected a readable image, got `{base / ids[index]}`: {first_line(error)}."
        ) from error


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
    return ImageSet(ids, bunch.target[part].astype(np.intp), 10, images.__getitem__)


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


def _numbered(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{index:05d}" for index in range(count))


def collate(inputs: Sequence[Any]) -> Any:
    """Preprocessed images as one tensor. Raises InvalidInput where their sizes differ."""
    import torch

    other = next((image.shape for image in inputs if image.shape != inputs[0].shape), None)
    if other is not None:
        raise InvalidInput(
            f"Expected preprocessed images of one size, got {list(inputs[0].shape)} and {list(other)}. Set "
            "`preprocessing.resize` and `preprocessing.crop`."
        )
    return torch.stack(list(inputs))
