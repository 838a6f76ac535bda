"""CIFAR-10 and CIFAR-100 from their published python files: checked, and unpickled as plain bytes only."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput, check_known
from ebjr_det.io.files import checksum, existing_file
from ebjr_det.tasks.classification.datasets.cifar_unpickle import PlainUnpickler

FILES = {
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
    ),
    "cifar100": (
        "cifar-100-python",
        {
            "test": {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            "train": {"train": "16019d7e3df5f24257cddd939b257f8d"},
        },
        b"fine_labels",
    ),
}
SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"
NAMES = {
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck",
    "cifar100": (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly "
        "camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile "
        "cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp "
        "lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree "
        "orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum "
        "rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider "
        "squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
        "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    ),
}
"""Classes in the order of their labels, as the published `batches.meta` and `meta` have them."""


class Split(NamedTuple):
    """Images uint8 [n, 32, 32, 3], labels [n], and the classes' names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.intp]
    class_names: tuple[str, ...]


def load_cifar(name: str, root: Path, split: str, verify: bool) -> Split:
    """A split of `cifar10` or `cifar100`.

    Args:
        root: has the published folder; `verify`: check the published md5 sums.

    Raises:
        ConfigError: an unknown split. InvalidInput: missing, damaged or unsafe files.
    """
    folder, splits, label_key = FILES[name]
    class_names = tuple(NAMES[name].split())
    check_known(split, splits, f"a split of {name}")
    pixels, labels = [], []
    for file, md5 in splits[split].items():
        path = existing_file(root / folder / file, f"{name} (from {SOURCE})")
        if verify and checksum(path, "md5") != md5:
            raise InvalidInput(
                f"Expected md5 {md5} for `{path}`, got {checksum(path, 'md5')}. "
                f"Fetch it again from {SOURCE}, or set data.verify=false for a file of your own."
            )
        batch = _unpickle(path)
        pixels.append(_array(batch.get(b"data"), path))
        labels.append(_label_list(batch.get(label_key), len(pixels[-1]), len(class_names), path))
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split(images, np.concatenate(labels), class_names)


def _unpickle(path: Path) -> dict[bytes, object]:
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


def _array(data: object, path: Path) -> NDArray[np.uint8]:
    if not (isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (3072,)):
        raise InvalidInput(f"Expected uint8 data [images, 3072] in `{path}`, got something else.")
    return data


def _label_list(labels: object, images: int, num_classes: int, path: Path) -> NDArray[np.intp]:
    if not (isinstance(labels, list) and all(type(n) is int for n in labels) and len(labels) == images > 0):
        raise InvalidInput(f"Expected {images or 'some'} labels, whole numbers, in `{path}`, got others.")
    if min(labels) < 0 or max(labels) >= num_classes:
        raise InvalidInput(
            f"Expected labels in 0..{num_classes - 1} in `{path}`, got {min(labels)}..{max(labels)}."
        )
    return np.array(labels, dtype=np.intp)
