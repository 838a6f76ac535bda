"""Batches of any data set: order, places where they begin, pictures left out, errors by name."""

from dataclasses import dataclass

import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.loader import batches_from


@dataclass
class Numbers:
    """Pictures that are numbers; those of `broken` cannot be loaded."""

    count: int = 11
    broken: tuple[int, ...] = ()
    skip_unreadable: bool = True

    @property
    def image_ids(self):
        return tuple(f"id-{index}" for index in range(self.count))

    def load(self, index):
        if index in self.broken:
            raise InvalidInput(f"Expected a readable picture, got `{index}.jpg`.")
        return 10 * index

    def target(self, index):
        return -index

    def __len__(self):
        return self.count


def twice(picture):
    return 2 * picture


def as_it_is(picture):
    return picture


def fall_over_30(picture):
    return picture if picture != 30 else 1 / 0


def refuse_pairs(column):
    if len(column) == 2:
        raise InvalidInput("Expected inputs of one size, got several.")
    return list(column)


def batches(images, start=0, size=4, workers=0, transforms=(as_it_is, twice), **options):
    return list(batches_from(start, images, transforms, size, workers, **options))


@pytest.mark.parametrize("start", [0, 1, 4, 10, 11])
@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize("broken", [(), (0,), (5, 6), (4, 5, 6, 7), (10,), tuple(range(11))])
def test_what_is_loaded_comes_in_order_without_what_is_broken(start, size, broken):
    got = batches(Numbers(broken=broken), start, size)
    expected = [
        [index for index in range(at, min(at + size, 11)) if index not in broken]
        for at in range(start, 11, size)
    ]
    expected = [lot for lot in expected if lot]
    assert [list(ids) for ids, *_ in got] == [[f"id-{i}" for i in lot] for lot in expected]
    assert [(own, other) for _, own, other, _ in got] == [
        ([10 * i for i in lot], [20 * i for i in lot]) for lot in expected
    ]
    assert [list(targets) for *_, targets in got] == [[-i for i in lot] for lot in expected]


def test_what_is_left_out_is_named_on_stderr(capsys):
    batches(Numbers(broken=(2, 9)))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.strip() for line in err.splitlines() if line.strip()] == [
        "Left out: Expected a readable picture, got `2.jpg`.",
        "Left out: Expected a readable picture, got `9.jpg`.",
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_an_error_where_that_is_asked(workers):
    stream = batches_from(0, Numbers(broken=(5,), skip_unreadable=False), (as_it_is,), 2, workers)
    assert [len(next(stream)[0]) for _ in range(2)] == [2, 2]
    with pytest.raises(InvalidInput, match=r"got `5\.jpg`") as caught:
        next(stream)
    assert len(str(caught.value).splitlines()) == 1


def test_loader_processes_give_the_same_batches():
    images = Numbers(broken=(3, 4))
    assert batches(images, workers=1) == batches(images)


def test_a_defect_of_a_transform_is_no_unreadable_picture():
    with pytest.raises(ZeroDivisionError):
        batches(Numbers(), transforms=(fall_over_30,))


def test_inputs_that_cannot_be_one_batch_are_an_error_that_names_it():
    with pytest.raises(InvalidInput, match=r"one size.*images `id-8` to `id-9`"):
        batches(Numbers(count=10, skip_unreadable=False), collate=refuse_pairs)
