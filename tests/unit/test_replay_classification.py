"""A PairedRun from saved logits: what it holds for good files, and what it says about every bad one."""

import numpy as np
import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import Logits, Output
from ebjr_det.tasks.classification.metric import Accuracy
from ebjr_det.tasks.classification.replay import load_pair

IMAGES, CLASSES = 9, 4


def two_scores(output):
    return {name: deferral_scores(output.logits, name) for name in ("free_energy", "margin")}


@pytest.fixture
def arrays(answers):
    """Logits of both models and labels."""
    return dict(zip(("student", "teacher", "labels"), answers(IMAGES, CLASSES), strict=True))


@pytest.fixture
def replayed(tmp_path, arrays):
    """A function: replace some of the three arrays, write all as .npy and load the pair."""

    def replay(**changes):
        paths = {}
        for name, array in (arrays | changes).items():
            paths[name] = tmp_path / f"{name}.npy"
            np.save(paths[name], array)
        return load_pair(paths, two_scores)

    return replay


@pytest.fixture
def files(tmp_path, arrays, replayed):
    """The paths of three good files, to spoil one of them."""
    replayed()
    return {name: tmp_path / f"{name}.npy" for name in arrays}


def load(files):
    return load_pair(files, two_scores)


def save_archive(files, name, **arrays):
    """Put an .npz in the place of one file."""
    path = files[name].with_suffix(".npz")
    np.savez(path, **arrays)
    return files | {name: path}


# --- Good files ---


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_pair_holds_scores_and_records_of_the_arrays(replayed, arrays, dtype):
    student, teacher = (arrays[name].astype(dtype) for name in ("student", "teacher"))
    run = replayed(student=student, teacher=teacher)
    assert run.task == "classification"
    assert run.image_ids == tuple(map(str, range(IMAGES)))
    for name, values in two_scores(Output(list(student), Logits.one_row(student))).items():
        np.testing.assert_array_equal(run.scores[name], values)
    for records, logits in ((run.student, student), (run.teacher, teacher)):
        expected = Accuracy().match(logits, arrays["labels"])
        assert {k: v.tolist() for k, v in records.items()} == {k: v.tolist() for k, v in expected.items()}
    assert run.student["correct"].tolist() == (student.argmax(1) == arrays["labels"]).tolist()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_labels_may_be_integers_of_any_width(replayed, arrays, dtype):
    run = replayed(labels=arrays["labels"].astype(dtype))
    assert run.student["correct"].tolist() == replayed().student["correct"].tolist()


def test_archives_give_the_same_and_their_ids(files, arrays):
    expected, ids = load(files), np.array([f"picture-{i}" for i in range(IMAGES)])
    changed = save_archive(files, "student", logits=arrays["student"], image_ids=ids, more=np.zeros(2))
    changed = save_archive(changed, "teacher", logits=arrays["teacher"], image_ids=ids)
    run = load(save_archive(changed, "labels", labels=arrays["labels"]))
    assert run.image_ids == tuple(ids)
    np.testing.assert_array_equal(run.scores["margin"], expected.scores["margin"])
    np.testing.assert_array_equal(run.teacher["correct"], expected.teacher["correct"])


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_ids_in_one_archive_are_enough(files, arrays, side):
    ids = np.arange(100, 100 + IMAGES)
    run = load(save_archive(files, side, logits=arrays[side], image_ids=ids))
    assert run.image_ids == tuple(str(i) for i in ids)


def test_a_single_image_and_a_single_class_are_lawful(replayed):
    run = replayed(student=np.ones((1, 1)), teacher=np.ones((1, 1)), labels=np.array([0]))
    assert run.student["correct"].tolist() == [True]


# --- Logits ---


def test_shapes_that_differ_are_refused_with_both(replayed, arrays):
    with pytest.raises(InvalidInput, match=r"one shape, got \[9, 4\].*\[9, 3\]"):
        replayed(teacher=arrays["teacher"][:, :3])
    with pytest.raises(InvalidInput, match=r"one shape, got \[9, 4\].*\[8, 4\]"):
        replayed(teacher=arrays["teacher"][:8])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_logits_that_are_not_finite_are_refused_with_file_and_place(replayed, arrays, side, bad):
    spoilt = arrays[side].copy()
    spoilt[[5, 7], 1] = bad
    with pytest.raises(InvalidInput, match=rf"{side}'s logits, .*{side}\.npy.*2 of 9 images.*index 5"):
        replayed(**{side: spoilt})


@pytest.mark.parametrize("side", ["student", "teacher"])
@pytest.mark.parametrize("spoil", [
    lambda logits: logits[0], lambda logits: logits[None], lambda logits: logits[:0],
    lambda logits: logits[:, :0], lambda logits: np.float64(3), lambda logits: logits.astype(int),
    lambda logits: logits.astype(complex), lambda logits: logits.astype(str), lambda logits: logits > 0,
])  # fmt: skip
def test_an_array_that_is_no_logits_is_refused_with_the_file(replayed, arrays, side, spoil):
    with pytest.raises(InvalidInput, match=rf"{side}\.npy"):
        replayed(**{side: spoil(arrays[side])})


# --- Labels ---


@pytest.mark.parametrize("label", [-1, CLASSES, 10**9])
def test_a_label_out_of_range_is_refused_with_the_range(replayed, arrays, label):
    labels = arrays["labels"].copy()
    labels[3] = label
    with pytest.raises(InvalidInput, match=rf"labels in 0\.\.3 in .*labels\.npy.*{label}"):
        replayed(labels=labels)


@pytest.mark.parametrize("dtype", [bool, str, complex])
def test_labels_that_are_no_integers_are_refused(replayed, arrays, dtype):
    with pytest.raises(InvalidInput, match="integer labels"):
        replayed(labels=arrays["labels"].astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_may_be_floats_of_whole_numbers_and_no_others(replayed, arrays, dtype):
    labels = arrays["labels"].astype(dtype)
    assert replayed(labels=labels).student["correct"].tolist() == replayed().student["correct"].tolist()
    for odd in (0.5, np.nan, np.inf):
        labels[3] = odd
        with pytest.raises(InvalidInput, match=r"integer labels|labels in 0\.\.3"):
            replayed(labels=labels)


@pytest.mark.parametrize("shape", [(IMAGES - 1,), (IMAGES + 1,), (IMAGES, 1), (0,), ()])
def test_labels_of_another_shape_are_refused(replayed, shape):
    with pytest.raises(InvalidInput, match="9 labels"):
        replayed(labels=np.zeros(shape, int))


# --- Ids ---


def test_an_id_that_comes_twice_is_refused(files, arrays):
    ids = np.array(["a", "b", "c", "d", "b", "e", "f", "g", "h"])
    with pytest.raises(InvalidInput, match="`b` more than once"):
        load(save_archive(files, "student", logits=arrays["student"], image_ids=ids))


@pytest.mark.parametrize("change", [lambda ids: ids[::-1], lambda ids: np.char.add(ids, "x")])
def test_ids_that_differ_between_the_models_are_refused(files, arrays, change):
    ids = np.array([str(i) for i in range(IMAGES)])
    changed = save_archive(files, "student", logits=arrays["student"], image_ids=ids)
    with pytest.raises(InvalidInput, match=r"student\.npz.*teacher\.npz"):
        load(save_archive(changed, "teacher", logits=arrays["teacher"], image_ids=change(ids)))


@pytest.mark.parametrize("kind", [np.int32, np.float64, "S2", "U9"])
def test_ids_of_one_text_are_one_id_whatever_their_type(files, arrays, kind):
    ids = np.arange(IMAGES)
    changed = save_archive(files, "student", logits=arrays["student"], image_ids=ids.astype(np.int64))
    run = load(save_archive(changed, "teacher", logits=arrays["teacher"], image_ids=ids.astype(kind)))
    assert run.image_ids == tuple(map(str, range(IMAGES)))


@pytest.mark.parametrize("ids", [np.arange(IMAGES - 1), np.zeros((IMAGES, 1)), np.array("a")])
def test_ids_of_another_shape_are_refused(files, arrays, ids):
    with pytest.raises(InvalidInput, match="9 image ids"):
        load(save_archive(files, "student", logits=arrays["student"], image_ids=ids))


def test_ids_beside_the_labels_that_differ_are_refused(files, arrays):
    ids = np.array([str(i) for i in range(IMAGES)])
    changed = save_archive(files, "student", logits=arrays["student"], image_ids=ids)
    with pytest.raises(InvalidInput, match="image_ids"):
        load(save_archive(changed, "labels", labels=arrays["labels"], image_ids=ids[::-1]))


# --- Files ---

every_file = pytest.mark.parametrize("name", ["student", "teacher", "labels"])


@every_file
def test_a_missing_file_is_named(files, name):
    files[name].unlink()
    with pytest.raises(InvalidInput, match=rf"{name}\.npy.*No such file"):
        load(files)


@every_file
def test_a_file_cut_off_anywhere_is_refused(files, name):
    whole = files[name].read_bytes()
    for length in [*range(12), 64, 127, 128, len(whole) - 1]:
        files[name].write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match=rf"{name}\.npy"):
            load(files)


@every_file
def test_a_file_of_garbage_is_refused(files, name):
    files[name].write_bytes(bytes(range(256)))
    with pytest.raises(InvalidInput, match=rf"{name}\.npy"):
        load(files)


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@every_file
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_pickled_array_is_refused_and_not_run(files, tmp_path, name, suffix):
    evil = np.array([Evil(tmp_path / "made")], dtype=object)
    key = "labels" if name == "labels" else "logits"
    if suffix == ".npz":
        files = save_archive(files, name, **{key: evil})
    else:
        np.save(files[name], evil)
    with pytest.raises(InvalidInput, match=rf"{name}\{suffix}"):
        load(files)
    assert not (tmp_path / "made").exists()


@every_file
def test_an_archive_without_its_key_is_refused_with_the_keys_it_has(files, name):
    with pytest.raises(InvalidInput, match=r"the key `(logits|labels)`.*something_else"):
        load(save_archive(files, name, something_else=np.zeros(3)))


@every_file
def test_an_archive_under_the_name_of_an_array_is_refused(files, name):
    save_archive(files, name, logits=np.zeros(3))[name].rename(files[name])
    with pytest.raises(InvalidInput, match=r"Name it `\.npz`"):
        load(files)


@every_file
def test_an_array_under_the_name_of_an_archive_is_refused(files, name):
    changed = files | {name: files[name].rename(files[name].with_suffix(".npz"))}
    with pytest.raises(InvalidInput, match=rf"{name}\.npz"):
        load(changed)


HEADERS = [
    b"{'descr': '<f8', 'shape': (3, ",
    b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**15, 4)}",
]


@pytest.mark.parametrize("header", [header.replace(b"10**15", b"%d" % 10**15) for header in HEADERS])
def test_a_header_that_makes_no_sense_is_refused(files, header):
    padded = header.ljust(117) + b"\n"
    files["student"].write_bytes(
        b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(64)
    )
    with pytest.raises(InvalidInput, match=r"student\.npy"):
        load(files)
