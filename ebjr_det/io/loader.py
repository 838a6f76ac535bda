"""A data set streamed through a torch DataLoader that preprocesses each picture for several models.

Knows nothing about what pictures and targets are.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from ebjr_det.core.errors import EbjrError, InvalidInput, Unreachable
from ebjr_det.core.types import Opaque
from ebjr_det.io.notes import say

Transform = Callable[[Opaque], Opaque]


class Images(Protocol):
    """Labelled pictures by index."""

    @property
    def image_ids(self) -> Sequence[str]:
        """One distinct name a picture."""

    @property
    def skip_unreadable(self) -> bool:
        """Go on without a picture that cannot be loaded, after it was named."""

    @property
    def load(self) -> Callable[[int], Opaque]:
        """The picture at an index. Raises InvalidInput, which names it, where it cannot be loaded."""

    def target(self, index: int) -> Opaque:
        """What the answer to a picture is judged by."""

    def __len__(self) -> int: ...


def batches_from(
    start: int,
    images: Images,
    transforms: Sequence[Transform],
    batch_size: int,
    workers: int,
    *,
    stop: int | None = None,
    collate: Callable[[Sequence[Opaque]], Opaque] = list,
) -> Iterator[tuple[Opaque, ...]]:
    """Batches (ids, inputs of each transform, targets) from picture `start` to `stop`, in the set's order.

    A picture that cannot be loaded is named on stderr and left out of its batch, or is an error.

    Args:
        collate: the inputs of a batch -> what a model is called with.
    """
    from torch.utils.data import DataLoader, Subset

    indices = range(start, len(images) if stop is None else stop)
    data: Any = Subset(_Pictures(images, transforms, collate), indices)  # type: ignore[arg-type]
    for columns, faults in DataLoader(data, batch_size, num_workers=workers, collate_fn=data.dataset.columns):
        for fault in faults:
            if isinstance(fault, Unreachable) or not images.skip_unreadable:
                raise fault
            say(f"Left out: {fault}")
        if columns:
            yield columns


def first_readable(images: Images) -> Opaque:
    """The first picture that can be loaded, on which a model's numbers are counted.

    Raises:
        InvalidInput: there is none; or one cannot be loaded, where that is an error.
    """
    fault = None
    for index in range(len(images)):
        try:
            return images.load(index)
        except InvalidInput as error:
            if not images.skip_unreadable:
                raise
            fault = fault or error
    raise InvalidInput(f"Expected a picture that can be read, got none among {len(images)}. First: {fault}")


def readable(images: Images, indices: Sequence[int]) -> list[Opaque]:
    """The pictures at some indices that can be loaded; where none of them can, the first that can."""
    loaded = []
    for index in indices:
        with suppress(InvalidInput):
            loaded.append(images.load(index))
    return loaded or [first_readable(images)]


class _Pictures:
    """A torch data set: image id, every model's input, target. Holds the transforms, not the models."""

    def __init__(
        self, images: Images, transforms: Sequence[Transform], collate: Callable[..., Opaque]
    ) -> None:
        self.images, self.transforms, self.collate = images, transforms, collate

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Opaque, ...] | EbjrError:
        try:
            image = self.images.load(index)
        except (InvalidInput, Unreachable) as error:
            return error  # a loader process would wrap it in its own traceback
        inputs = [transform(image) for transform in self.transforms]
        return self.images.image_ids[index], *inputs, self.images.target(index)

    def columns(
        self, rows: list[tuple[Opaque, ...] | EbjrError]
    ) -> tuple[tuple[Opaque, ...], list[EbjrError]]:
        """Rows to columns, and the faults among them.

        A tensor made here costs a loader process one open file, not one a picture.
        """
        faults = [row for row in rows if isinstance(row, EbjrError)]
        loaded = [row for row in rows if not isinstance(row, EbjrError)]
        if not loaded:
            return (), faults
        ids, *inputs, targets = zip(*loaded, strict=True)
        try:
            return (ids, *(self.collate(column) for column in inputs), targets), faults
        except InvalidInput as error:
            return (), [InvalidInput(f"{error} (In the batch of images `{ids[0]}` to `{ids[-1]}`.)")]
