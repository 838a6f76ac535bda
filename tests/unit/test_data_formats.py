"""One annotated set in COCO's, YOLO's and VOC's form, and what other tools make of these forms."""

import os
import re

import numpy as np
import pytest
import yaml
from formats import CLASSES, SIZES, WRITERS, coco_content, voc_xml, write_coco, write_voc, write_yolo
from PIL import Image

from ebjr_det.core.errors import EbjrError, InvalidInput
from ebjr_det.tasks.detection.data import build_data, build_named


def assert_same_objects(data, other):
    assert data.image_ids == other.image_ids
    assert data.class_names == other.class_names
    np.testing.assert_array_equal(data.annotations.sizes, other.annotations.sizes)
    for truth, twin in zip(data.annotations.truths, other.annotations.truths, strict=True):
        for column in ("boxes", "labels", "areas", "crowd"):
            np.testing.assert_array_equal(getattr(truth, column), getattr(twin, column))


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_a_set_in_another_form_has_the_same_pictures_ids_and_boxes_to_the_bit(form, tmp_path):
    data = build_data(**WRITERS[form](tmp_path / form))
    twin = build_data(**write_coco(tmp_path / "coco"))
    assert_same_objects(data, twin)
    assert sum(map(len, data.annotations.truths)) == 15
    for index in range(len(data)):
        np.testing.assert_array_equal(np.asarray(data.load(index)), np.asarray(twin.load(index)))
    named = build_named(**WRITERS[form](tmp_path / "again"))
    assert named.class_names == CLASSES
    assert named.categories == data.categories


def test_boxes_are_those_that_supervision_reads(tmp_path):
    supervision = pytest.importorskip("supervision")
    read = supervision.DetectionDataset
    write_yolo(tmp_path / "yolo"), write_voc(tmp_path / "voc")
    write_coco(tmp_path / "coco")
    folders = {
        "yolo": read.from_yolo(
            str(tmp_path / "yolo/images/val"),
            str(tmp_path / "yolo/labels/val"),
            str(tmp_path / "yolo/data.yaml"),
        ),
        "voc": read.from_pascal_voc(str(tmp_path / "voc/JPEGImages"), str(tmp_path / "voc/Annotations")),
        "coco": read.from_coco(str(tmp_path / "coco/images"), str(tmp_path / "coco/truth.json")),
    }
    data = build_data(**write_coco(tmp_path / "ours"))
    for peer in folders.values():
        by_stem = {os.path.basename(path)[:4]: found for path, found in peer.annotations.items()}
        for name, truth in zip(data.annotations.file_names, data.annotations.truths, strict=True):
            found = by_stem[name[:4]]
            corners = np.concatenate([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]], axis=1)
            np.testing.assert_allclose(found.xyxy.reshape(-1, 4), corners, atol=1e-4)  # theirs have 32 bits
            assert [peer.classes[k] for k in found.class_id] == [CLASSES[k] for k in truth.labels]


# --- YOLO ---


def test_a_blank_line_among_names_is_refused_and_folders_of_a_system_are_no_splits(tmp_path):
    write_yolo(tmp_path / "set")
    (tmp_path / "set" / "data.yaml").unlink()
    names, content = tmp_path / "set" / "classes.txt", "\n".join(CLASSES) + "\n\n"
    names.write_text(content)
    system = tmp_path / "set" / "images" / "@eaDir"
    system.mkdir()
    (tmp_path / "set" / "labels" / "@eaDir").mkdir()
    Image.new("RGB", (8, 8)).save(system / "thumbnail.png")
    settings = {"dataset": "yolo", "annotations": str(names)}
    assert build_data(**settings).image_ids == tuple(str(int(stem)) for stem in SIZES)  # the one split
    names.write_text(content.replace("ant", "\nant"))
    with pytest.raises(InvalidInput, match=r"a class on every line of `.*classes.txt`, got a blank line"):
        build_data(**settings)


def test_pictures_without_a_label_file_or_with_an_empty_one_are_counted(tmp_path, capsys):
    data = build_data(**write_yolo(tmp_path))
    assert list(data.remarks.values()) == [1, 1]
    note = capsys.readouterr().err
    assert "empty label files, of pictures without objects: 1; pictures without a label file" in note


def lists(root):
    files = [f"./images/val/{stem}.png" for stem in SIZES]
    (root / "val.txt").write_text("\n".join(files[:2]))
    (root / "more.txt").write_text("\n".join(str(root / file) for file in files[2:]))
    return ["val.txt", "more.txt"]


SPLITS = {
    "list files": lambda root: {"val": lists(root)},
    "folders": lambda root: {"val": ["images/val", "images/val"]},
    "Roboflow's folder above": lambda root: {"val": "../images/val"},
    "absolute": lambda root: {"path": str(root), "val": "images"},
    "a set that was moved": lambda root: {"path": "/content/gone", "val": "images/val"},
    "names by number": lambda root: {"names": {2: "cow", 0: "bee", 1: "ant"}, "nc": 3},
}


@pytest.mark.parametrize("form", SPLITS)
def test_a_data_yaml_names_its_pictures_in_any_of_the_usual_ways(form, tmp_path):
    root = tmp_path / "set"
    settings = write_yolo(root)
    content = yaml.safe_load((root / "data.yaml").read_text()) | SPLITS[form](root)
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    assert_same_objects(build_data(**settings), build_data(**write_coco(tmp_path / "coco")))
    by_folder = {"dataset": "yolo", "root": str(root), "split": "val"}
    assert build_data(**by_folder, limit=2).image_ids == ("7", "12")


def test_outlines_and_oriented_boxes_become_the_boxes_round_them(tmp_path):
    settings = write_yolo(tmp_path)
    label = tmp_path / "labels" / "val" / "0200.txt"
    label.write_text("2 0.1 0.2 0.5 0.1 0.6 0.9 0.3 0.5\n1 0.1 0.2 0.5 0.2 0.5 0.4\n")  # of 60 x 50
    data = build_data(**settings)
    assert data.annotations.truths[-1].boxes.tolist() == [[6, 5, 30, 40], [6, 10, 24, 10]]
    assert any("boxes round them" in remark and count == 2 for remark, count in data.remarks.items())
    content = yaml.safe_load((tmp_path / "data.yaml").read_text()) | {"kpt_shape": [2, 2]}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    label.write_text("2 0.5 0.5 0.5 0.5 0.1 0.1 0.2 0.2\n")
    assert build_data(**settings).annotations.truths[-1].boxes.tolist() == [[15, 12.5, 30, 25]]


def test_ids_are_texts_where_a_stem_is_none_and_sizes_are_of_the_upright_picture(tmp_path):
    settings = write_yolo(tmp_path)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "images" / "val" / "turned.jpg", exif=exif)
    (tmp_path / "labels" / "val" / "turned.txt").write_text("0 0.5 0.5 1 1")
    data = build_data(**settings)
    assert data.image_ids[-1] == "turned"
    assert data.annotations.truths[-1].boxes.tolist() == [[0, 0, 40, 60]]
    assert data.load(len(data) - 1).size == (40, 60)
    assert build_data(**settings, ids=["turned", "0007"]).image_ids == ("0007", "turned")


LINES = {
    "3 .5 .5 .1 .1": "a class from 0 to 2, as `.*data.yaml` names them, in line 2 of `.*0007.txt`, got 3",
    "0.5 .5 .5 .1 .1": "Expected a class from 0 to 2",
    "1 153.2 87 40 31": "from 0 to 1, in line 2 of `.*0007.txt`, got 153.2. Divide pixels by",
    "1 .5 .5 -.1 .1": "got -0.1",
    "1 .5 .5 .1": "`class x y width height`.* got 4 columns",
    "1 .5 .5 .1 .1 .9": "6 columns, as of results with confidences",
    "1 .5 .5 .1 .1 .9 .1 .2": "got 8 columns",
    "bee .5 .5 .1 .1": "Expected finite numbers in line 2 of",
    "1 nan .5 .1 .1": "Expected finite numbers in line 2 of",
}


@pytest.mark.parametrize("line", LINES)
def test_a_faulty_label_is_named_with_its_file_and_line(line, tmp_path):
    settings = write_yolo(tmp_path)
    (tmp_path / "labels" / "val" / "0007.txt").write_text(f"0 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(InvalidInput, match=LINES[line]):
        build_data(**settings)


FAULTS = {
    "names missing": ({"names": None}, "`names` in `.*data.yaml` to be a list"),
    "a name that YAML reads as no": ({"names": ["bee", False, "cow"]}, "texts as `names`.*got False.*quotes"),
    "names from 1": ({"names": {1: "bee", 2: "ant"}}, "one for each of 0, 1, 2"),
    "another count": ({"nc": 4}, "as many `names` as `nc`.*got 3 and 4"),
    "keypoints in words": ({"kpt_shape": "17,3"}, "`kpt_shape` in .* a list of counts, got '17,3'"),
    "keypoints below none": ({"kpt_shape": [-1, 2]}, "`kpt_shape` in .* a list of counts"),
    "no such split": ({"val": None}, "a split of `.*data.yaml`"),
    "no such folder": ({"val": "images/test"}, "a folder or a list, at `.*images/test`"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_data_yaml_is_refused_in_one_line(fault, tmp_path):
    changes, words = FAULTS[fault]
    with pytest.raises(EbjrError, match=words):
        build_data(**write_yolo(tmp_path, changes))


def test_a_set_without_any_label_file_is_refused(tmp_path):
    settings = write_yolo(tmp_path)
    (tmp_path / "labels").rename(tmp_path / "gone")
    with pytest.raises(InvalidInput, match=r"label files of .*labels/val/0007.txt.*none for any of its 5"):
        build_data(**settings)
    assert len(build_data(**settings, labels=False)) == 5


# --- VOC ---


def test_of_two_pictures_of_one_stem_the_xml_file_names_its_own(tmp_path):
    settings = write_voc(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "JPEGImages" / "0007.tif")
    data = build_data(**settings)
    assert (data.annotations.file_names[0], data.load(0).size) == ("0007.png", SIZES["0007"])
    file = tmp_path / "Annotations" / "0007.xml"
    file.write_text(voc_xml("0007").replace("0007.png", "other.png"))
    with pytest.raises(InvalidInput, match=r"one picture of `0007`.*got 0007.png, 0007.tif"):
        build_data(**settings)


def test_voc_counts_pixels_from_one_or_says_otherwise(tmp_path):
    settings = write_voc(tmp_path / "voc", first=0)
    twin = build_data(**write_coco(tmp_path / "coco"))
    assert_same_objects(build_data(**settings, first_pixel=0), twin)
    path = tmp_path / "voc" / "Annotations" / "0007.xml"
    path.write_text(re.sub("<xmin>.*?</xmin>", "<xmin>0.0</xmin>", path.read_text(), count=1))
    with pytest.raises(InvalidInput, match=r"pixels from 1 in `.*0007.xml`, got 0. Set `first_pixel` to 0"):
        build_data(**settings)


def test_difficult_objects_are_crowds_and_classes_go_by_alphabet_in_every_split(tmp_path):
    settings = write_voc(tmp_path, difficult=1)
    del settings["classes"]
    settings["first_pixel"] = 1
    (tmp_path / "ImageSets" / "Main" / "one.txt").write_text("0007\n")
    data = build_data(**settings | {"split": "one"})
    assert data.class_names == tuple(sorted(CLASSES))
    assert data.annotations.truths[0].crowd.all()
    assert list(data.remarks.values()) == [5]
    assert build_named(**settings).class_names == data.class_names


def test_xml_beside_pictures_needs_no_list_and_what_has_no_twin_is_counted(tmp_path):
    settings = write_voc(tmp_path)
    (tmp_path / "JPEGImages" / "0200.png").unlink()
    (tmp_path / "Annotations" / "0102.xml").unlink()
    folders = {"annotations": str(tmp_path / "Annotations"), "images": str(tmp_path / "JPEGImages")}
    data = build_data("voc", **folders, classes=settings["classes"], first_pixel=1)
    assert data.image_ids == ("7", "12", "101")
    assert list(data.remarks.values()) == [1, 1]


XML = {
    "an entity": ('<!DOCTYPE a [<!ENTITY b "x">]><annotation>&b;</annotation>', "VOC's XML in .*0007.xml"),
    "no XML": ("bee", "VOC's XML in .*0007.xml"),
    "another kind": ("<svg/>", "`annotation` as the outermost element"),
    "an unknown class": (re.sub("<name>.*?<", "<name>dog<", voc_xml("0007")), "got `dog`.*data.classes"),
    "no numbers": (voc_xml("0007").replace("<xmax>", "<xmax>x"), "Expected numbers in xmin, ymin"),
    "crossed sides": (voc_xml("0007").replace("<xmax>", "<xmax>-"), "xmin <= xmax"),
}  # fmt: skip


@pytest.mark.parametrize("fault", XML)
def test_a_faulty_xml_file_is_named(fault, tmp_path):
    settings = write_voc(tmp_path)
    content, words = XML[fault]
    (tmp_path / "Annotations" / "0007.xml").write_text(content)
    with pytest.raises(InvalidInput, match=words):
        build_data(**settings)


LABELMAPS = {
    "bee:::\nbee:::\nant:::\ncow:::": "distinct classes in .*labelmap.txt`, got `bee` more than once",
    "# label\nbee:::\nant:::\n": "one of the 2 classes in .*, got `cow`",
}


@pytest.mark.parametrize("labelmap", LABELMAPS)
def test_classes_of_cvat_are_all_there_and_once(labelmap, tmp_path):
    settings = write_voc(tmp_path)
    del settings["classes"]
    (tmp_path / "labelmap.txt").write_text(labelmap)
    with pytest.raises(InvalidInput, match=LABELMAPS[labelmap]):
        build_data(**settings)


def test_a_folder_of_no_known_form_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"one data.yaml or VOC's XML files in .*, got neither"):
        build_data("voc", annotations=str(tmp_path))


LISTS = {
    "twice": (b"0007\n0012\n0007\n", "distinct pictures in .*val.txt`, got `0007` more than once"),
    "empty": (b"\n", "distinct pictures in .*val.txt`, got an empty list"),
    "of another code page": (b"caf\xe9\n", "Expected text in .*val.txt"),
}


@pytest.mark.parametrize("case", LISTS)
def test_a_faulty_list_of_pictures_is_named(case, tmp_path):
    settings = write_voc(tmp_path)
    path = tmp_path / "ImageSets" / "Main" / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf0007\r\n0012\r\n")  # as editors of Windows save it
    assert len(build_data(**settings)) == 2
    content, words = LISTS[case]
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        build_data(**settings)


@pytest.mark.parametrize("width", ["9" * 30, "9" * 5000, "1000001"])
def test_a_size_that_no_picture_has_is_refused(width, tmp_path):
    settings = write_voc(tmp_path)
    path = tmp_path / "Annotations" / "0007.xml"
    path.write_text(re.sub("<width>.*?</width>", f"<width>{width}</width>", path.read_text()))
    with pytest.raises(InvalidInput, match=r"whole numbers up to 1,000,000 as size in .*0007.xml"):
        build_data(**settings)


def test_a_split_that_is_not_listed_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InvalidInput, match=r"pictures of `vla` at .*vla.txt`, got none. Did you mean `val`"):
        build_data(**write_voc(tmp_path) | {"split": "vla"})


# --- COCO as other tools write it ---


def roboflow(content):
    group = {"id": 0, "name": "cells", "supercategory": "none"}
    content["categories"] = [group, *(c | {"supercategory": "cells"} for c in content["categories"])]


def label_studio(content):
    """Categories from 0, names with the mark of an upload, folders above, letters of a URL."""
    for category in content["categories"]:
        category["id"] -= 1
    for entry in content["annotations"]:
        entry |= {"category_id": entry["category_id"] - 1, "segmentation": [], "ignore": 0}
        del entry["iscrowd"]
    forms = (
        "/data/upload/1/1a2b3c4d-{}",
        "images\\{}",
        "../../media/upload/7/{}",
        "{}",
        "/data/local-files/?d=pictures%2F{}",
    )
    for image, form in zip(content["images"], forms, strict=True):
        image["file_name"] = form.format(image["file_name"])


def cvat(content):
    content["licenses"] = [{"name": "", "id": 0, "url": ""}]
    for category in content["categories"]:
        category["supercategory"] = ""
    for entry in content["annotations"]:
        entry |= {
            "segmentation": [],
            "attributes": {"occluded": False},
            "area": float(np.prod(entry["bbox"][2:])),
        }
    for image in content["images"]:
        image["file_name"] = f"default/{image['file_name']}"


def outlines(content):
    for entry in content["annotations"]:
        x, y, w, h = entry.pop("bbox")
        entry["segmentation"] = [[x, y, x + w, y, x + w, y + h], [x, y, x + w, y + h, x, y + h]]


EXPORTS = {
    "Roboflow": (roboflow, {"category that groups all others, as Roboflow writes it, left out": 1}),
    "Label Studio": (label_studio, {"pictures found by the end of the name that the file has for them": 4}),
    "CVAT": (cvat, {"pictures found by the end of the name that the file has for them": 5}),
    "outlines alone": (outlines, {"outlines without a box taken as the box round them": 15}),
}


@pytest.mark.parametrize("tool", EXPORTS)
def test_an_export_of_another_tool_is_the_same_set(tool, tmp_path):
    content = coco_content()
    change, remarks = EXPORTS[tool]
    change(content)
    data = build_data(**write_coco(tmp_path / tool, content))
    assert_same_objects(data, build_data(**write_coco(tmp_path / "plain")))
    assert data.remarks == remarks
    assert data.load(3).size == SIZES["0102"]
    assert build_named(**write_coco(tmp_path / "named", content)).class_names == CLASSES


def test_a_group_that_has_objects_is_a_class(tmp_path):
    content = coco_content()
    roboflow(content)
    content["annotations"][0]["category_id"] = 0
    assert build_data(**write_coco(tmp_path, content)).class_names == ("cells", *CLASSES)
