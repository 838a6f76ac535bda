"""Annotated images: COCO's layout and others, which images, pictures whose size is not the annotated one."""

import json

import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.loader import batches_from
from ebjr_det.tasks.detection.data import build_data, build_named
from ebjr_det.tasks.detection.networks.classes import coco_names

CATEGORIES = [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}]
IDS = (30, 4, 12, 9)  # as in the file, not in order


def picture(image_id, width=40, height=30):
    pixels = np.random.default_rng(image_id).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_set(root, ids=IDS, split="val2017", size=(40, 30)):
    """A set in COCO's layout: one object an image, its class and its box by the image's id."""
    folder = root / split
    folder.mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    for image_id in ids:
        picture(image_id, *size).save(folder / f"{image_id:012d}.png")
    content = {
        "images": [
            {"id": i, "file_name": f"{i:012d}.png", "width": size[0], "height": size[1]} for i in ids
        ],
        "categories": CATEGORIES,
        "annotations": [
            {
                "id": 1 + n, "image_id": i, "category_id": (3, 7)[i % 2], "bbox": [1, 2, i % 10 + 3, 4],
                "area": 9, "iscrowd": 0,
            }
            for n, i in enumerate(ids)
        ],
    }  # fmt: skip
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(json.dumps(content))
    return path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    write_set(tmp_path)
    return tmp_path


def coco(root, **options):
    return build_data("coco", root=str(root), split="val2017", **options)


# --- Which images ---


def test_cocos_layout_gives_each_image_its_picture_and_its_objects(root):
    data = coco(root)
    assert data.image_ids == ("4", "9", "12", "30")
    assert data.categories == {3: "cat", 7: "cup"}
    assert data.class_names == ("cat", "cup")
    for index, image_id in enumerate(sorted(IDS)):
        np.testing.assert_array_equal(np.asarray(data.load(index)), np.asarray(picture(image_id)))
        target = data.target(index)
        assert target.classes == 2
        assert target.truth.boxes.tolist() == [[1, 2, image_id % 10 + 3, 4]]
        assert target.truth.labels.tolist() == [image_id % 2]


def test_annotations_and_pictures_may_lie_anywhere(root, tmp_path):
    path = root / "annotations" / "instances_val2017.json"
    (tmp_path / "elsewhere").mkdir()
    moved = path.rename(tmp_path / "elsewhere" / "mine.json")
    data = build_data("coco", annotations=str(moved), images=str(root / "val2017"))
    assert data.image_ids == ("4", "9", "12", "30")
    assert data.load(2).tobytes() == picture(12).tobytes()
    mixed = build_data("coco", root=str(root), split="val2017", annotations=str(moved))
    assert mixed.image_ids == data.image_ids


def test_ids_and_limit_keep_picture_and_objects_together(root):
    data = coco(root, ids=[30, 9, 9])
    assert data.image_ids == ("9", "30")
    assert data.load(1).tobytes() == picture(30).tobytes()
    assert data.target(1).truth.boxes.tolist() == [[1, 2, 3, 4]]
    assert coco(root, limit=3).image_ids == ("4", "9", "12")
    assert coco(root, limit=99).image_ids == ("4", "9", "12", "30")
    assert coco(root, ids=[30, 9], limit=1).image_ids == ("9",)


def test_ids_that_are_not_there_and_no_ids_are_refused(root):
    with pytest.raises(ConfigError, match="got 5"):
        coco(root, ids=[4, 5])
    with pytest.raises(ConfigError, match="at least one image"):
        coco(root, ids=[])


def test_what_is_missing_is_named_with_its_path(root, tmp_path):
    with pytest.raises(InvalidInput, match=r"download coco-val2017.*instances_val2018\.json"):
        build_data("coco", root=str(root), split="val2018")
    (root / "val2017").rename(tmp_path / "gone")
    with pytest.raises(InvalidInput, match=r"folder of pictures at .*val2017.*cocodataset\.org"):
        coco(root)
    with pytest.raises(ConfigError, match=r"data\.root"):
        build_data("coco", root=str(root))
    with pytest.raises(ConfigError, match=r"data\.images"):
        build_data("coco", annotations="x.json")
    with pytest.raises(ConfigError, match="Did you mean `coco`"):
        build_data("cocoo")


def test_digit_scenes_have_splits_and_no_folders():
    with pytest.raises(ConfigError, match="Did you mean `calibration`"):
        build_data("digit_scenes", split="calib")
    for where in ({"root": "x"}, {"annotations": "x"}, {"images": "x"}):
        with pytest.raises(ConfigError, match="without `root`"):
            build_data("digit_scenes", **where)


# --- Pictures ---


def test_the_annotated_size_decides_how_a_picture_is_turned(root):
    """A set whose boxes were drawn on the raw pixels, and one of what a viewer shows."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "val2017" / "000000000009.png"
    picture(9).save(path, exif=exif)
    assert coco(root, ids=[9]).load(0).tobytes() == picture(9).tobytes()

    def turn(content):
        for entry in content["images"]:
            if entry["id"] == 9:
                entry["width"], entry["height"] = 30, 40

    edit(root / "annotations" / "instances_val2017.json", turn)
    shown = picture(9).transpose(Image.Transpose.ROTATE_270)
    assert coco(root, ids=[9]).load(0).tobytes() == shown.tobytes()


def test_a_picture_of_another_size_than_annotated_is_named(root):
    picture(9, 41, 30).save(root / "val2017" / "000000000009.png")
    with pytest.raises(InvalidInput, match=r"000000000009\.png.*40 x 30, got 41 x 30"):
        coco(root).load(1)


def test_without_an_annotated_size_any_picture_is_taken(root):
    def forget(content):
        for entry in content["images"]:
            del entry["width"], entry["height"]

    edit(root / "annotations" / "instances_val2017.json", forget)
    picture(9, 41, 30).save(root / "val2017" / "000000000009.png")
    assert coco(root).load(1).size == (41, 30)


def spoil(root):
    """Three kinds of pictures that cannot be read: a text, nothing, and the first half of one."""
    folder = root / "val2017"
    (folder / "000000000004.png").write_text("no picture")
    (folder / "000000000012.png").unlink()
    whole = (folder / "000000000030.png").read_bytes()
    (folder / "000000000030.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_are_named_and_left_out(root, workers, capsys):
    spoil(root)
    data = coco(root)
    ((ids, sizes, targets),) = batches_from(0, data, (size_of,), 4, workers)
    assert (ids, sizes) == (("9",), [(40, 30)])
    assert targets[0].truth.boxes.tolist() == [[1, 2, 12, 4]]
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 3
    for line, name in zip(lines, ("04", "12", "30"), strict=True):
        assert f"0000000000{name}.png" in line


def size_of(opened):
    return opened.size


def test_unreadable_pictures_are_an_error_where_that_is_asked(root):
    spoil(root)
    with pytest.raises(InvalidInput, match=r"000000000004\.png"):
        list(batches_from(0, coco(root, skip_unreadable=False), (size_of,), 4, 0))


# --- Classes without pictures ---


def test_the_classes_of_annotations_are_known_without_pictures(root, tmp_path):
    path = root / "annotations" / "instances_val2017.json"
    assert build_named("coco", annotations=str(path)).categories == {3: "cat", 7: "cup"}
    assert build_named("coco", root=str(root), split="val2017", limit=1).categories == {3: "cat", 7: "cup"}
    scenes = build_data("digit_scenes", split="calibration", limit=1)
    assert build_named("digit_scenes", split="calibration").categories == scenes.categories
    assert scenes.categories == {digit + 1: str(digit) for digit in range(10)}


def test_without_annotations_the_classes_are_cocos_80():
    named = build_named("coco", root="/nowhere", split="val2017").categories
    assert len(named) == 80
    assert (named[1], named[90]) == ("person", "toothbrush")
    assert named == {key: coco_names()[key] for key in named}
    with pytest.raises(InvalidInput, match=r"typo\.json"):
        build_named("coco", annotations="/nowhere/typo.json")


@pytest.mark.shared
def test_cocos_names_are_those_of_its_annotations(shared_data):
    path = shared_data / "coco" / "annotations" / "instances_val2017_204.json"
    written = {entry["id"]: entry["name"] for entry in json.loads(path.read_text())["categories"]}
    assert build_named("coco", root="/nowhere", split="val2017").categories == written


@pytest.mark.slow
@pytest.mark.shared
def test_real_pictures_all_have_their_annotated_size(shared_data):
    coco204 = build_data(
        "coco",
        annotations=str(shared_data / "coco" / "annotations" / "instances_val2017_204.json"),
        images=str(shared_data / "coco" / "val2017"),
    )
    cells = build_data(
        "coco",
        annotations=str(shared_data / "bccd" / "test.json"),
        images=str(shared_data / "bccd" / "images"),
    )
    assert (len(coco204), len(cells)) == (204, 72)
    for data in (coco204, cells):
        for index in range(len(data)):
            opened, size = data.load(index), data.annotations.sizes[index]
            assert (opened.mode, opened.size) == ("RGB", tuple(size))


def test_the_classes_of_a_set_of_ones_own_that_is_not_here_are_never_cocos(tmp_path):
    with pytest.raises(InvalidInput, match=r"instances_val\.json"):
        build_named("coco", root=str(tmp_path), split="val")
    assert build_named("coco", root=str(tmp_path), split="val2017").class_names[:2] == ("person", "bicycle")


@pytest.mark.parametrize(("split", "told"), [("val2017", True), ("mine", False)])
def test_the_address_of_coco_is_told_for_its_own_splits_only(split, told, tmp_path):
    with pytest.raises(InvalidInput) as caught:
        build_data("coco", root=str(tmp_path), split=split)
    assert ("cocodataset.org" in str(caught.value)) == told
