"""Saved runs: what goes in comes out, a file is whole or not there, and reading one runs no code."""

import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import PairedRun
from ebjr_det.io import records
from ebjr_det.io.records import PartStore, join_runs, load_run, read_npz, save_run
from ebjr_det.tasks.classification.metric import Accuracy


def assert_identical(first, second):
    assert (first.task, first.image_ids) == (second.task, second.image_ids)
    for group in ("scores", "student", "teacher"):
        columns = getattr(first, group), getattr(second, group)
        assert list(columns[0]) == list(columns[1])
        for name in columns[0]:
            assert columns[0][name].dtype == columns[1][name].dtype
            np.testing.assert_array_equal(columns[0][name], columns[1][name])
    assert list(first.others) == list(second.others)
    for name, own in first.others.items():
        assert list(own) == list(second.others[name])
        for column, values in own.items():
            np.testing.assert_array_equal(values, second.others[name][column], strict=True)


def with_others(run, **others):
    return replace(run, others=others)


def odd_run():
    """Unusual but lawful: ids of all kinds, extreme scores, flat and empty columns."""
    ids = ("a/b c.jpg", "ünï-☃", "", "0", "x" * 300)
    scores = {"s": np.array([1.7e308, -1.7e308, 5e-324, -0.0, 0.1]), "free/energy": np.arange(5.0)}
    student = {"counts": np.array([2, 0, 1, 0, 0]), "flat": np.array([0.5, 0.25, 1], np.float32)}
    teacher = {"counts": np.zeros(5, int), "flat": np.zeros((0, 4), np.float16)}
    return PairedRun("détection", ids, scores, student, teacher)


@pytest.fixture
def saved(pair, tmp_path):
    """A run, and the file that holds it."""
    run, path = pair(images=12), tmp_path / "run.npz"
    save_run(run, path)
    return run, path


# --- Round trip ---


@pytest.mark.parametrize("ties", [False, True])
def test_a_run_comes_back_to_the_bit(pair, tmp_path, ties):
    run = pair(images=50, ties=ties)
    save_run(run, tmp_path / "run.npz")
    assert_identical(load_run(tmp_path / "run.npz"), run)


def test_unusual_ids_names_and_numbers_come_back_to_the_bit(tmp_path):
    run = odd_run()
    save_run(run, tmp_path / "run.npz")
    loaded = load_run(tmp_path / "run.npz")
    assert_identical(loaded, run)
    assert np.signbit(loaded.scores["s"][3])


def test_the_file_holds_plain_arrays_that_numpy_alone_can_read(saved):
    run, path = saved
    with np.load(path, allow_pickle=False) as archive:
        assert archive["image_ids"].tolist() == list(run.image_ids)
        assert str(archive["task"]) == "classification"
        np.testing.assert_array_equal(archive["scores/margin"], run.scores["margin"])
        np.testing.assert_array_equal(archive["teacher/correct"], run.teacher["correct"])


def test_saving_replaces_an_older_run(saved, pair):
    _, path = saved
    other = pair(images=5, seed=9)
    save_run(other, path)
    assert_identical(load_run(path), other)


def test_further_models_come_back_to_the_bit_and_with_the_images_that_are_selected(pair, tmp_path):
    run = pair(images=12)
    run = with_others(run, **{"YOLO v5: n.pt": run.teacher, "b": run.student})
    save_run(run, tmp_path / "run.npz")
    loaded = load_run(tmp_path / "run.npz")
    assert_identical(loaded, run)
    assert_identical(join_runs(parts_of(loaded, 5)), run)
    some = select(run, Accuracy(), np.array([7, 2]))
    np.testing.assert_array_equal(some.others["b"]["correct"], run.student["correct"][[7, 2]])


def test_a_run_without_further_models_is_written_as_before(saved):
    with np.load(saved[1]) as archive:
        assert not [key for key in archive if key.startswith("others")]


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "\ud800"])
def test_a_models_name_that_no_file_can_hold_is_refused(pair, name):
    with pytest.raises(InvalidInput, match="name"):
        with_others(pair(), **{name: pair().student})


def test_records_of_a_further_model_on_other_images_are_refused(pair):
    with pytest.raises(InvalidInput, match="others/m/correct"):
        with_others(pair(images=12), m=pair(images=11).student)


def test_parts_with_other_further_models_do_not_join(pair):
    first, second = parts_of(pair(images=8), 4)
    with pytest.raises(InvalidInput, match="further models"):
        join_runs([with_others(first, m=first.student), second])


# --- Whole or not there ---


class PowerCutError(Exception):
    """What a failing disk raises in these tests."""


@pytest.mark.parametrize("written", [0, 10, 400])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(saved, monkeypatch, written):
    run, path = saved
    before = path.read_bytes()

    def failing(opened, **arrays):
        opened.write(before[:written])
        raise PowerCutError

    monkeypatch.setattr(records.np, "savez_compressed", failing)
    with pytest.raises(PowerCutError):
        save_run(run, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_first_write_that_fails_leaves_nothing(pair, tmp_path, monkeypatch):
    def failing(opened, **arrays):
        raise KeyboardInterrupt

    monkeypatch.setattr(records.np, "savez_compressed", failing)
    with pytest.raises(KeyboardInterrupt):
        save_run(pair(), tmp_path / "run.npz")
    assert list(tmp_path.iterdir()) == []


# --- Damaged and foreign files ---


def test_a_file_cut_off_anywhere_is_refused(saved):
    _, path = saved
    whole = path.read_bytes()
    for length in [0, 1, 2, 3, 4, 10, *range(30, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=r"run\.npz"):
            load_run(path)


def test_a_file_with_a_wrong_byte_is_refused_or_its_columns_are_right(saved):
    """Every array has a checksum; a wrong byte in the archive's directory may hide one of them."""
    run, path = saved
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            loaded = load_run(path)
        except InvalidInput:
            refused += 1
            continue
        assert loaded.image_ids == run.image_ids
        for group in ("scores", "student", "teacher"):
            for name, column in getattr(loaded, group).items():
                np.testing.assert_array_equal(column, getattr(run, group)[name])
    assert refused > len(whole) / 10


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(InvalidInput, match=str(path)):
            load_run(path)


@pytest.mark.parametrize("content", [b"hello", b"\x93NUMPY\x01\x00", b"PK\x05\x06" + bytes(18), bytes(500)])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "run.npz").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"run\.npz"):
        load_run(tmp_path / "run.npz")


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    evil = np.array([Evil(tmp_path / "made")], dtype=object)
    np.savez(tmp_path / "in_archive.npz", version=np.array(1), task=evil, image_ids=evil)
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(evil[0]))
    np.save(tmp_path / "array.npy", evil)
    for name in ("in_archive.npz", "bare.npz", "array.npy"):
        with pytest.raises(InvalidInput, match=name):
            load_run(tmp_path / name)
    assert not (tmp_path / "made").exists()


def test_records_that_hold_objects_are_refused_before_they_are_written(tmp_path):
    column = {"correct": np.array([None, 1], dtype=object)}
    with pytest.raises(InvalidInput):
        save_run(PairedRun("classification", ("a", "b"), {}, column, column), tmp_path / "run.npz")


def rewritten(path, **changes):
    """The archive at `path` with some arrays replaced, or removed where None."""
    with np.load(path) as archive:
        arrays = dict(archive) | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused_with_both_numbers(saved, version):
    with pytest.raises(InvalidInput, match=f"version 1 in .*got {version}"):
        load_run(rewritten(saved[1], version=np.array(version)))


@pytest.mark.parametrize("name", ["version", "task", "image_ids"])
def test_an_archive_without_a_part_of_a_run_is_refused_by_its_name(saved, name):
    with pytest.raises(InvalidInput, match=name):
        load_run(rewritten(saved[1], **{name: None}))


def test_an_archive_of_somebody_else_is_refused(tmp_path):
    np.savez(tmp_path / "run.npz", weights=np.zeros(3))
    with pytest.raises(InvalidInput, match="version"):
        load_run(tmp_path / "run.npz")


@pytest.mark.parametrize(("name", "array"), [
    ("scores/margin", np.full(12, np.nan)), ("scores/margin", np.full(12, np.inf)),
    ("scores/margin", np.zeros(11)), ("scores/margin", np.zeros((12, 1))),
    ("image_ids", np.array(["same"] * 12)), ("image_ids", np.array([], dtype="U1")),
    ("other/column", np.zeros(12)), ("others/column", np.zeros(12)), ("others/m/column", np.zeros(11)),
])  # fmt: skip
def test_an_archive_whose_content_makes_no_run_is_refused(saved, name, array):
    with pytest.raises(InvalidInput):
        load_run(rewritten(saved[1], **{name: array}))


@pytest.mark.parametrize(("name", "array"), [
    ("version", np.array([1, 1])), ("version", np.array("one")), ("image_ids", np.array("one")),
    ("scores/margin", np.array(["x"] * 12)),
])  # fmt: skip
def test_an_archive_whose_content_has_another_type_is_refused(saved, name, array):
    with pytest.raises(InvalidInput):
        load_run(rewritten(saved[1], **{name: array}))


def test_an_archive_whose_records_are_too_short_is_refused(saved):
    with pytest.raises(InvalidInput):
        load_run(rewritten(saved[1], **{"student/correct": np.zeros(3, bool)}))


def test_a_single_array_under_the_name_of_an_archive_is_refused(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InvalidInput, match="single array"):
        read_npz(tmp_path / "array.npz", "logits")


def test_the_error_says_what_was_wanted(tmp_path):
    with pytest.raises(InvalidInput, match="Expected the thing"):
        read_npz(tmp_path / "none.npz", "the thing")


# --- Parts ---


def parts_of(run, size):
    starts = range(0, len(run), size)
    return [select(run, Accuracy(), np.arange(at, min(at + size, len(run)))) for at in starts]


@pytest.mark.parametrize("size", [1, 4, 25, 50])
def test_parts_join_to_the_whole(pair, tmp_path, size):
    run, store = pair(images=50), PartStore(tmp_path / "parts")
    for part in parts_of(run, size):
        store.add(part)
    assert_identical(join_runs(store.load()), run)


def test_parts_keep_their_order_beyond_ten(pair, tmp_path):
    parts, store = parts_of(pair(images=13), 1), PartStore(tmp_path)
    for part in parts:
        store.add(part)
    assert [part.image_ids for part in PartStore(tmp_path).load()] == [part.image_ids for part in parts]


def test_a_part_that_was_being_written_is_not_counted(pair, tmp_path, monkeypatch):
    first, second = parts_of(pair(images=8), 4)
    store = PartStore(tmp_path)
    store.add(first)
    with monkeypatch.context() as patch:
        patch.setattr(records.np, "savez_compressed", lambda opened, **arrays: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.add(second)
    (tmp_path / ".000001-abc.npz").write_bytes(b"left by a kill")
    assert len(store.load()) == 1
    store.add(second)
    assert len(store.load()) == 2


def test_no_parts_make_no_folder_until_one_is_added_and_clearing_removes_it(pair, tmp_path):
    store = PartStore(tmp_path / "parts")
    assert store.load() == []
    store.clear()
    assert not store.folder.exists()
    store.add(pair())
    store.clear()
    assert list(tmp_path.iterdir()) == []


def test_what_a_kill_left_beside_the_parts_does_not_stop_clearing(pair, tmp_path):
    store = PartStore(tmp_path / "parts")
    store.add(pair())
    (store.folder / ".000001-abc.npz").write_bytes(b"left by a kill")
    store.clear()
    assert not store.folder.exists()


def test_parts_that_share_an_image_do_not_join(pair):
    with pytest.raises(InvalidInput, match="image-0000"):
        join_runs([pair(images=3), pair(images=3)])


def test_a_saved_run_is_a_compressed_archive_without_pickles(saved):
    with zipfile.ZipFile(saved[1]) as archive:
        assert all(entry.compress_type == zipfile.ZIP_DEFLATED for entry in archive.infolist())
        assert all(entry.filename.endswith(".npy") for entry in archive.infolist())
