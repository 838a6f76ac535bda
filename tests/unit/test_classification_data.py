"""Labelled images: CIFAR files made here, image folders against torchvision, damaged and malicious files."""

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.loader import batches_from
from ebjr_det.tasks.classification.data import build_data, collate
from ebjr_det.tasks.classification.datasets.cifar import FILES as CIFAR_FILES
from ebjr_det.tasks.classification.networks.preprocessing import CIFAR_STATISTICS, Preprocessing

IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# --- CIFAR ---


def pixels(images, seed=0):
    return np.random.default_rng(seed).integers(256, size=(images, 3072), dtype=np.uint8)


def batch(images=3, seed=0, labels=(4, 0, 9), key=b"labels"):
    return {b"data": pixels(images, seed), key: list(labels)}


def write_cifar(root, batches, name="cifar10", split="test"):
    """Write the files of a split as CIFAR's own tool did: pickles of protocol 2. Returns the paths."""
    folder, splits, *_ = CIFAR_FILES[name]
    (root / folder).mkdir(exist_ok=True)
    paths = [root / folder / file for file in splits[split]]
    for path, content in zip(paths, batches, strict=True):
        path.write_bytes(pickle.dumps(content, protocol=2))
    return paths


def load_cifar(root, name="cifar10", split="test", **options):
    return build_data(name, str(root), split, **{"verify": False} | options)


def test_cifar_pixels_lie_channel_by_channel_row_by_row(tmp_path):
    content = batch()
    write_cifar(tmp_path, [content])
    images = load_cifar(tmp_path)
    assert len(images) == 3
    for index in range(3):
        image = images.load(index)
        assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
        for row, column, channel in [(0, 0, 0), (0, 31, 1), (5, 7, 2), (31, 0, 0), (31, 31, 2)]:
            assert image[row, column, channel] == content[b"data"][index, channel * 1024 + row * 32 + column]
        np.testing.assert_array_equal(image.transpose(2, 0, 1).ravel(), content[b"data"][index])


def test_cifar_labels_and_ids_keep_their_order(tmp_path):
    write_cifar(tmp_path, [batch()])
    images = load_cifar(tmp_path)
    assert images.labels.tolist() == [4, 0, 9]
    assert images.num_classes == 10
    assert images.image_ids == ("test-00000", "test-00001", "test-00002")


def test_cifar_training_files_follow_one_another(tmp_path):
    files = [batch(2, seed, labels=(seed, seed + 1)) for seed in range(5)]
    write_cifar(tmp_path, files, split="train")
    images = load_cifar(tmp_path, split="train")
    assert images.labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert images.image_ids[-1] == "train-00009"
    for index in range(10):
        flat = images.load(index).transpose(2, 0, 1).ravel()
        np.testing.assert_array_equal(flat, files[index // 2][b"data"][index % 2])


def test_cifar100_takes_the_fine_labels(tmp_path):
    content = batch(key=b"fine_labels", labels=(99, 0, 50)) | {b"coarse_labels": [1, 2, 3]}
    write_cifar(tmp_path, [content], "cifar100")
    images = load_cifar(tmp_path, "cifar100")
    assert (images.labels.tolist(), images.num_classes) == ([99, 0, 50], 100)


def test_a_limit_takes_the_first_images(tmp_path):
    write_cifar(tmp_path, [batch()])
    images = load_cifar(tmp_path, limit=2)
    assert (len(images), images.labels.tolist()) == (2, [4, 0])
    assert len(load_cifar(tmp_path, limit=99)) == 3
    with pytest.raises(ConfigError, match="limit"):
        load_cifar(tmp_path, limit=0)


def test_a_file_with_another_md5_is_refused_with_both(tmp_path):
    (path,) = write_cifar(tmp_path, [batch()])
    published = CIFAR_FILES["cifar10"][1]["test"]["test_batch"]
    got = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(InvalidInput, match=f"{published}.*{got}"):
        load_cifar(tmp_path, verify=True)


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("place", ["bare", "a key", "a label", "in the array"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, place):
    evil = Evil(tmp_path / "made")
    content = {
        "bare": evil,
        "a key": batch() | {b"extra": evil},
        "a label": batch(labels=(1, 2, evil)),
        "in the array": {b"data": np.array([evil], dtype=object), b"labels": [1]},
    }[place]
    write_cifar(tmp_path, [content])
    with pytest.raises(InvalidInput, match=r"test_batch.*damaged or unsafe"):
        load_cifar(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("function", [b"os\nsystem", b"builtins\neval", b"numpy\nload", b"posix\nsystem"])
def test_a_pickle_that_looks_up_a_function_is_refused_by_its_name(tmp_path, function):
    (path,) = write_cifar(tmp_path, [batch()])
    path.write_bytes(b"c" + function + b"\n(S'1'\ntR.")
    with pytest.raises(InvalidInput, match=function.decode().replace("\n", r"\.")):
        load_cifar(tmp_path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    (path,) = write_cifar(tmp_path, [batch()])
    whole = path.read_bytes()
    for length in [*range(60), *range(60, len(whole), 331), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInput, match="test_batch"):
            load_cifar(tmp_path)


@pytest.mark.parametrize("content", [
    batch(labels=(1, 2, 10)), batch(labels=(1, -1, 2)), batch(labels=(1, 2)), batch(labels=()),
    batch(images=0, labels=()), {b"data": pixels(3)}, {b"labels": [1, 2, 3]},
    {b"data": pixels(3).astype(np.int64), b"labels": [1, 2, 3]},
    {b"data": pixels(3)[:, :1000], b"labels": [1, 2, 3]},
    {b"data": pixels(3).tolist(), b"labels": [1, 2, 3]}, [1, 2, 3], None,
])  # fmt: skip
def test_a_file_whose_content_is_no_cifar_is_refused(tmp_path, content):
    write_cifar(tmp_path, [content])
    with pytest.raises(InvalidInput):
        load_cifar(tmp_path)


@pytest.mark.parametrize(
    "labels", [[1.7, 2.0, 3.0], ["cat", "dog", "cow"], None, {1: 2}, [1, 2, 10**30], [[1], [2], [3]]]
)
def test_labels_that_are_no_list_of_integers_are_refused(tmp_path, labels):
    write_cifar(tmp_path, [{b"data": pixels(3), b"labels": labels}])
    with pytest.raises(InvalidInput):
        load_cifar(tmp_path)


def test_files_that_each_have_the_wrong_number_of_labels_are_refused(tmp_path):
    files = [batch(2, labels=(1, 2, 3)), batch(2, labels=(4,)), *[batch(1, labels=(5,))] * 3]
    write_cifar(tmp_path, files, split="train")
    with pytest.raises(InvalidInput):
        load_cifar(tmp_path, split="train")


def test_missing_data_says_where_to_get_it(tmp_path):
    with pytest.raises(InvalidInput, match=r"cs\.toronto\.edu"):
        load_cifar(tmp_path)
    with pytest.raises(ConfigError, match="root"):
        build_data("cifar10")


def test_unknown_names_and_splits_offer_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean `cifar10`"):
        build_data("cifar-10", str(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean `test`"):
        build_data("cifar10", str(tmp_path), "tests")
    with pytest.raises(ConfigError, match="test, train"):
        build_data("digits", split="validation")


# --- Image folders ---


def colours(*shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def write_image(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or Image.fromarray(colours(6, 5, 3, seed=len(str(path))))).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes; names whose order differs between plain, case-blind and numeric sorting."""
    for name in (
        "cat/b.png",
        "cat/Z.PNG",
        "cat/10.jpg",
        "cat/9.jpeg",
        "dog/é.bmp",
        "dog/a.webp",
        "Zebra/z.tif",
    ):
        write_image(tmp_path / "val" / name)
    (tmp_path / "val" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "val" / "readme.png.txt").write_text("no class")
    return tmp_path


def test_an_image_folder_has_torchvisions_order_classes_and_pixels(folder):
    images, reference = build_data("image_folder", str(folder), "val"), ImageFolder(folder / "val")
    assert [str(folder / "val" / name) for name in images.image_ids] == [
        path for path, _ in reference.samples
    ]
    assert images.labels.tolist() == reference.targets
    assert images.num_classes == len(reference.classes) == 3
    for index, (image, _) in enumerate(reference):
        np.testing.assert_array_equal(np.asarray(images.load(index)), np.asarray(image))


def test_without_a_split_the_root_holds_the_classes_and_a_misspelt_one_is_refused(folder):
    split = build_data("image_folder", str(folder), "val")
    assert build_data("image_folder", str(folder / "val")).image_ids == split.image_ids
    with pytest.raises(InvalidInput, match="vall"):
        build_data("image_folder", str(folder), "vall")


def test_nested_folders_belong_to_their_class(folder):
    write_image(folder / "val" / "cat" / "deep" / "down" / "x.png")
    images = build_data("image_folder", str(folder), "val")
    label = dict(zip(images.image_ids, images.labels, strict=True))
    assert label["cat/deep/down/x.png"] == label["cat/b.png"]


def test_nested_folders_keep_torchvisions_order(folder):
    write_image(folder / "val" / "cat" / "a" / "x.png")
    images, reference = build_data("image_folder", str(folder), "val"), ImageFolder(folder / "val")
    assert [str(folder / "val" / name) for name in images.image_ids] == [
        path for path, _ in reference.samples
    ]


def test_links_are_followed_as_torchvision_follows_them(folder):
    val = folder / "val"
    (val / "cat" / "more").symlink_to("../dog")
    (val / "linked_class").symlink_to("dog")
    (val / "dog" / "linked.webp").symlink_to("a.webp")
    images, reference = build_data("image_folder", str(val)), ImageFolder(val)
    assert images.class_names == tuple(reference.classes)
    assert [str(val / name) for name in images.image_ids] == [path for path, _ in reference.samples]
    assert images.labels.tolist() == reference.targets
    assert len(images) == 7 + 1 + 2 * 3


def test_a_link_to_the_folder_around_it_adds_nothing(folder):
    val = folder / "val"
    before = build_data("image_folder", str(val))
    (val / "cat" / "all").symlink_to(val)
    assert build_data("image_folder", str(val)).image_ids == before.image_ids


def test_a_hidden_folder_is_no_class_and_what_is_left_out_is_said(folder, capsys):
    val = folder / "val"
    write_image(val / ".ipynb_checkpoints" / "z-checkpoint.png")
    write_image(val / "cat" / ".thumbs" / "b.png")
    write_image(val / "cover.png")
    images = build_data("image_folder", str(val))
    assert images.class_names == ("Zebra", "cat", "dog")
    assert len(images) == 7
    said = (
        "hidden files and folders (2), files that are no pictures (2), pictures outside of class folders (1)"
    )
    assert capsys.readouterr().err == f"Left out of `{val}`: {said}.\n"


@pytest.mark.parametrize("stray", [None, "notes.txt", ".hidden.png"])
def test_a_class_without_a_picture_is_an_error_that_names_it_as_in_torchvision(folder, stray):
    (folder / "val" / "empty").mkdir()
    if stray == "notes.txt":
        (folder / "val" / "empty" / stray).write_text("no picture")
    elif stray:
        write_image(folder / "val" / "empty" / stray)
    else:
        with pytest.raises(FileNotFoundError, match="empty"):
            ImageFolder(folder / "val")
    with pytest.raises(InvalidInput, match="none in 1 of 4: `empty`"):
        build_data("image_folder", str(folder), "val")


def test_a_name_that_is_no_text_has_an_id_that_can_be_written(tmp_path):
    path = write_image(tmp_path / "c" / "x.png")
    path.rename(tmp_path / "c" / os.fsdecode(b"x\xff.png"))
    images = build_data("image_folder", str(tmp_path))
    assert images.image_ids == ("c/x\\xff.png",)
    assert images.load(0).size == (5, 6)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    exif, levels = Image.Exif(), colours(6, 5, 3)
    exif[0x0112] = orientation
    write_image(tmp_path / "c" / "x.png", Image.fromarray(levels), exif=exif)
    turned = np.rot90(levels, {3: 2, 6: -1}[orientation])
    np.testing.assert_array_equal(np.asarray(build_data("image_folder", str(tmp_path)).load(0)), turned)


@pytest.mark.parametrize("suffix", [".ppm", ".pgm"])
def test_every_kind_of_file_that_torchvision_takes_is_taken(folder, suffix):
    write_image(folder / "val" / "cat" / f"x{suffix}", Image.fromarray(colours(4, 4)))
    assert len(build_data("image_folder", str(folder), "val")) == len(ImageFolder(folder / "val"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_kind_of_image_becomes_rgb_as_in_torchvision(tmp_path, mode):
    grey = Image.fromarray(colours(8, 6))
    image = grey.convert(mode)
    assert image.mode == mode
    write_image(tmp_path / "c" / ("x.tif" if mode == "CMYK" else "x.png"), image)
    loaded = build_data("image_folder", str(tmp_path)).load(0)
    assert (loaded.mode, loaded.size) == ("RGB", (6, 8))
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(ImageFolder(tmp_path)[0][0]))
    if mode == "L":
        np.testing.assert_array_equal(np.asarray(loaded), np.repeat(np.asarray(grey)[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
def test_a_broken_image_is_named(tmp_path, suffix):
    path = write_image(tmp_path / "c" / f"broken{suffix}", Image.fromarray(colours(64, 64, 3)))
    whole = path.read_bytes()
    images = build_data("image_folder", str(tmp_path))
    for content in (whole[: len(whole) // 2], whole[:10], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=rf"c/broken\{suffix}"):
            images.load(0)


def test_an_image_that_is_gone_or_far_too_large_is_named(tmp_path, monkeypatch):
    path = write_image(tmp_path / "c" / "x.png")
    images = build_data("image_folder", str(tmp_path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(InvalidInput, match=r"c/x\.png.*exceeds"):
        images.load(0)
    path.unlink()
    with pytest.raises(InvalidInput, match=r"c/x\.png"):
        images.load(0)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="none"):
        build_data("image_folder", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="got none"):
        build_data("image_folder", str(tmp_path))
    (tmp_path / "empty_class").mkdir()
    with pytest.raises(InvalidInput, match="got none"):
        build_data("image_folder", str(tmp_path))


# --- Digits ---


def test_digits_are_split_into_597_and_1200_different_images():
    train, test = build_data("digits", split="train"), build_data("digits")
    assert (len(train), len(test), test.num_classes) == (597, 1200, 10)
    assert set(train.image_ids).isdisjoint(test.image_ids)
    assert len({*train.image_ids, *test.image_ids}) == 1797
    assert set(train.labels) == set(test.labels) == set(range(10))


def test_digits_are_scikit_learns_in_grey_from_0_to_255():
    from sklearn.datasets import load_digits

    bunch, images = load_digits(), build_data("digits")
    for index in (0, 1, 600, 1199):
        original = int(images.image_ids[index].removeprefix("digit-"))
        image = images.load(index)
        assert images.labels[index] == bunch.target[original]
        assert (image.shape, image.dtype) == ((8, 8, 3), np.uint8)
        np.testing.assert_allclose(
            image, np.repeat(bunch.images[original][..., None] * 255 / 16, 3, 2), atol=0.5
        )


# --- Batches ---


def double(image):
    return torch.from_numpy(image.astype(int) * 2)


@pytest.mark.parametrize("start", [0, 1, 7, 10, 11])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_batches_start_anywhere_and_hold_ids_both_inputs_and_labels(start, size):
    images = build_data("digits", limit=11)
    batches = list(batches_from(start, images, (torch.from_numpy, double), size, 0, collate=collate))
    assert [len(ids) for ids, *_ in batches] == [min(size, 11 - at) for at in range(start, 11, size)]
    columns = [[value for column in batches for value in column[at]] for at in range(4)]
    ids, student, teacher, labels = columns
    assert tuple(ids) == images.image_ids[start:]
    assert labels == images.labels[start:].tolist()
    for at, index in enumerate(range(start, 11)):
        np.testing.assert_array_equal(student[at], images.load(index))
        np.testing.assert_array_equal(teacher[at], 2 * images.load(index).astype(int))


def test_a_broken_image_stops_the_batches_by_its_name(folder):
    images = build_data("image_folder", str(folder), "val")
    (folder / "val" / images.image_ids[4]).write_bytes(b"broken")
    batches = batches_from(0, images, (lambda image: torch.zeros(1),), 2, 0, collate=collate)
    assert len(next(batches)[0]) == len(next(batches)[0]) == 2
    with pytest.raises(InvalidInput, match="readable picture"):
        next(batches)


# --- Preprocessing ---


@pytest.mark.parametrize("statistics", [CIFAR_STATISTICS, IMAGENET_STATISTICS, ((0.0,) * 3, (1.0,) * 3)])
@pytest.mark.parametrize("form", ["array", "PIL"])
def test_preprocessing_equals_torchvisions_to_the_bit(statistics, form):
    levels = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=2)
    image = levels if form == "array" else Image.fromarray(levels)
    expected = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*statistics)])(image)
    got = Preprocessing(*statistics).build()(image)
    assert type(got) is torch.Tensor
    assert (got.dtype, got.shape) == (torch.float32, (3, 16, 16))
    assert torch.equal(got, expected)


def test_preprocessing_of_a_cifar_image_equals_torchvisions_to_the_bit(tmp_path):
    write_cifar(tmp_path, [batch()])
    image = load_cifar(tmp_path).load(1)
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*CIFAR_STATISTICS)])
    expected = reference(Image.fromarray(np.ascontiguousarray(image)))
    assert torch.equal(Preprocessing(*CIFAR_STATISTICS).build()(image), expected)


def test_resizing_scales_the_shorter_side_and_cropping_takes_the_centre():
    image = Image.fromarray(colours(60, 90, 3))
    plain = (0.0,) * 3, (1.0,) * 3
    assert Preprocessing(*plain, resize=20).build()(image).shape == (3, 20, 30)
    cropped = Preprocessing(*plain, crop=30).build()(image)
    assert torch.equal(cropped, Preprocessing(*plain).build()(image)[:, 15:45, 30:60])
    assert Preprocessing(*plain, resize=40, crop=32).build()(image).shape == (3, 32, 32)
