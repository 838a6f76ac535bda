"""Open Images as published: its tables in every version, pictures that are not here, faults by their line."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.loader import batches_from
from ebjr_det.tasks.detection.coco.results import write_annotations
from ebjr_det.tasks.detection.data import build_data, build_named
from ebjr_det.tasks.detection.datasets import open_images, open_images_tables
from ebjr_det.tasks.detection.detections import Detections
from ebjr_det.tasks.detection.metric import AveragePrecision

V4 = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
    "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
)
V6 = V4 + ",XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
CHALLENGE = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf"
CLASSES = ["/m/011k07,Tortoise", "/m/011q46kg,Container", '/m/0k4j,"Car, old"']
LOW, MID, HIGH = "000026e7ee790996", "0c5b5b1b7a1ea7d1", "f00d5b1b7a1ea7d1"
GONE = "00075905539074f2"
SIZES = {LOW: (200, 100), MID: (64, 48), HIGH: (30, 40)}
ROWS = [  # ImageID, LabelName, XMin, XMax, YMin, YMax, IsGroupOf: not in the order of the pictures
    (HIGH, "/m/0k4j", "0.1", "0.5", "0.25", "1", 0),
    (LOW, "/m/0k4j", "0.071905", "0.145346", "0.206591", "0.391306", 1),
    (GONE, "/m/011k07", "0", "1", "0", "1", 0),
    (LOW, "/m/011k07", "0.000000", "1.000000", "0.5", "0.75", 0),
    (MID, "/m/011q46kg", "0.5", "0.5", "0.25", "0.5", -1),
]


def boxes_csv(rows, header=V4):
    """The rows under a header, Confidence 1 and 0 in every other column."""
    lines = [header]
    for image, label, x0, x1, y0, y1, group in rows:
        cells = {"ImageID": image, "LabelName": label, "XMin": x0, "XMax": x1, "YMin": y0, "YMax": y1}
        cells |= {"IsGroupOf": group, "Source": "xclick", "Confidence": "1"}
        lines.append(",".join(str(cells.get(name, 0)) for name in header.split(",")))
    return "\n".join(lines) + "\n"


def write_pictures(folder, images=(LOW, MID, HIGH)):
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        generator = np.random.default_rng(int(image, 16))
        pixels = generator.integers(256, size=(*SIZES[image][::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{image}.jpg")


@pytest.fixture
def root(tmp_path):
    """V5's validation set: four annotated pictures, of which one was not fetched."""
    (tmp_path / "class-descriptions-boxable.csv").write_text("\n".join(CLASSES) + "\n")
    (tmp_path / "validation-annotations-bbox.csv").write_text(boxes_csv(ROWS))
    write_pictures(tmp_path / "validation")
    return tmp_path


def load(root, split="validation", **options):
    return build_data("open_images", root=str(root), split=split, **options)


def refusal(call, kind=InvalidInput):
    """What is said, in one line that is not long."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("Expected ")
    return message


# --- What is read ---


def test_boxes_are_in_pixels_of_each_picture(root, capsys):
    data = load(root)
    assert data.annotations.image_ids == (0x000026E7EE790, 0x0C5B5B1B7A1EA, 0xF00D5B1B7A1EA)
    assert data.image_ids == tuple(str(number) for number in data.annotations.image_ids)
    assert data.annotations.file_names == tuple(f"{image}.jpg" for image in (LOW, MID, HIGH))
    assert data.annotations.sizes.tolist() == [[200, 100], [64, 48], [30, 40]]
    assert data.categories == {1: "Tortoise", 2: "Container", 3: "Car, old"}
    low, mid, high = data.annotations.truths
    np.testing.assert_allclose(low.boxes, [[14.381, 20.6591, 14.6882, 18.4715], [0, 50, 200, 25]])
    np.testing.assert_allclose(low.areas, [14.6882 * 18.4715, 5000])
    assert (low.labels.tolist(), low.crowd.tolist()) == ([2, 0], [True, False])
    assert mid.boxes.tolist() == [[32, 12, 0, 12]]
    assert (mid.labels.tolist(), mid.crowd.tolist()) == ([1], [False])  # -1 is unknown, not a group
    np.testing.assert_allclose(high.boxes, [[3, 10, 12, 30]])
    assert data.target(0).classes == 3
    assert low.boxes.dtype == low.areas.dtype == np.float64
    assert low.crowd.dtype == bool
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"Left out of `validation-annotations-bbox.csv`: pictures not in `{root}/validation` (1)."


def test_pictures_are_those_of_their_boxes_also_in_part(root):
    data = load(root)
    for index, image in enumerate((LOW, MID, HIGH)):
        with Image.open(root / "validation" / f"{image}.jpg") as opened:
            assert data.load(index).tobytes() == opened.convert("RGB").tobytes()
    part = load(root, ids=[0xF00D5B1B7A1EA, 0x26E7EE790], limit=2)
    assert part.image_ids == (data.image_ids[0], data.image_ids[2])
    assert part.load(1).tobytes() == data.load(2).tobytes()
    assert part.target(1).truth.labels.tolist() == [2]


VERSIONS = {
    "V4 train": ("train-annotations-bbox.csv", V4, "class-descriptions-boxable.csv", ""),
    "V6 train": ("oidv6-train-annotations-bbox.csv", V6, "class-descriptions-boxable.csv", ""),
    "V7": (
        "oidv6-train-annotations-bbox.csv",
        V6,
        "oidv7-class-descriptions-boxable.csv",
        "LabelName,DisplayName\n",
    ),
    "with id and name": (
        "train-annotations-bbox.csv",
        V4,
        "oidv6-class-descriptions-boxable.csv",
        "id,name\n",
    ),
    "other order of columns": (
        "train-annotations-bbox.csv",
        ",".join(reversed(V6.split(","))),
        "class-descriptions-boxable.csv",
        "\ufeff",
    ),
    "Challenge columns": ("train-annotations-bbox.csv", CHALLENGE, "class-descriptions-boxable.csv", "\n"),
}


@pytest.mark.parametrize(("boxes", "header", "classes", "first"), VERSIONS.values(), ids=VERSIONS)
def test_every_published_version_says_the_same(boxes, header, classes, first, root):
    reference = load(root)
    (root / "class-descriptions-boxable.csv").unlink()
    (root / classes).write_text(first + "\n".join(CLASSES), encoding="utf-8")
    (root / boxes).write_text(boxes_csv(ROWS, header))
    write_pictures(root / "train")
    data = load(root, "train")
    assert data.categories == reference.categories == build_named("open_images", root=str(root)).categories
    assert data.image_ids == reference.image_ids
    for own, other in zip(data.annotations.truths, reference.annotations.truths, strict=True):
        assert own.boxes.tolist() == other.boxes.tolist()
        assert own.labels.tolist() == other.labels.tolist()
        assert own.crowd.tolist() == other.crowd.tolist()


def test_of_several_versions_the_latest_is_taken(root):
    (root / "train-annotations-bbox.csv").write_text(boxes_csv(ROWS[:1]))
    (root / "oidv6-train-annotations-bbox.csv").write_text(boxes_csv(ROWS, V6))
    (root / "oidv7-class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n" + "\n".join(CLASSES).replace("Tortoise", "Turtle")
    )
    write_pictures(root / "train")
    assert len(load(root, "train")) == 3
    assert load(root, "train").class_names[0] == "Turtle"


def test_all_classes_are_taken_only_without_the_boxable_and_said(root, capsys):
    (root / "oidv6-class-descriptions.csv").write_text(
        "LabelName,DisplayName\n/m/0100,Sky\n" + "\n".join(CLASSES)
    )
    assert build_named("open_images", root=str(root)).class_names == ("Tortoise", "Container", "Car, old")
    assert capsys.readouterr().err == ""
    (root / "class-descriptions-boxable.csv").unlink()
    assert load(root).target(2).truth.labels.tolist() == [3]
    assert "all 4 classes of `oidv6-class-descriptions.csv`" in capsys.readouterr().err


def test_tables_and_pictures_may_lie_elsewhere(root, tmp_path):
    reference = load(root)
    (tmp_path / "elsewhere").mkdir()
    moved = (root / "validation-annotations-bbox.csv").rename(tmp_path / "elsewhere" / "mine.csv")
    pictures = (root / "validation").rename(tmp_path / "elsewhere" / "pictures")
    where = {"annotations": str(moved), "images": str(pictures)}
    assert build_data("open_images", root=str(root), **where).image_ids == reference.image_ids
    assert "Images' classes in" in refusal(lambda: build_data("open_images", **where))
    classes = "class-descriptions-boxable.csv"
    (root / classes).rename(tmp_path / "elsewhere" / classes)
    data = build_data("open_images", **where)
    assert data.image_ids == reference.image_ids
    assert build_named("open_images", **where).categories == data.categories


def test_the_classes_need_no_pictures_and_no_boxes(root):
    (root / "validation-annotations-bbox.csv").unlink()
    named = build_named("open_images", root=str(root), split="nope", limit=3)
    assert named.categories == {1: "Tortoise", 2: "Container", 3: "Car, old"}
    assert "`data.root`" in refusal(lambda: build_named("open_images", split="train"), ConfigError)


def test_pictures_may_lie_in_folders_of_their_archives(root):
    (root / "validation" / "validation_f").mkdir()
    name = f"{HIGH}.jpg"
    (root / "validation" / name).rename(root / "validation" / "validation_f" / name)
    data = load(root)
    assert data.annotations.file_names[2] == f"validation_f/{name}"
    assert data.load(2).size == (30, 40)
    write_pictures(root / "validation", [HIGH])
    assert HIGH in refusal(lambda: load(root))


def test_images_that_would_have_the_same_id_are_refused(root):
    twin = HIGH[:-1] + "2"
    with (root / "validation-annotations-bbox.csv").open("a") as opened:
        opened.write(boxes_csv([(twin, "/m/0k4j", 0, 1, 0, 1, 0)]).partition("\n")[2])
    assert len(load(root)) == 3
    Image.new("RGB", (8, 8)).save(root / "validation" / f"{twin}.jpg")
    assert f"`{HIGH}.jpg` and `{twin}.jpg`" in refusal(lambda: load(root))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_rotation_in_the_metadata_is_not_followed(root, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = root / "validation" / f"{HIGH}.jpg"
    with Image.open(path) as opened:
        plain = opened.convert("RGB")
    plain.save(path, exif=exif, quality=95)
    data = load(root)
    assert data.annotations.sizes[2].tolist() == [30, 40]
    with Image.open(path) as opened:
        assert data.load(2).tobytes() == opened.convert("RGB").tobytes()


# --- What is left out ---


def test_everything_left_out_is_said_in_one_line(root, capsys):
    path = root / "validation-annotations-bbox.csv"
    text = boxes_csv([*ROWS, ROWS[3], (GONE, "", "x", "", "", "", 7)])
    path.write_text(text + f"{HIGH},verification,/m/011k07,0,0,1,0,1,0,0,0,0,0\n\n")
    Image.new("RGB", (8, 8)).save(root / "validation" / "00075905539074f3.jpg")
    Image.new("RGB", (8, 8)).save(root / "validation" / "cover.png")
    (root / "validation" / "README.txt").write_text("no picture")
    data = load(root)
    assert [len(truth) for truth in data.annotations.truths] == [2, 1, 1]
    (said,) = capsys.readouterr().err.splitlines()
    assert said == (
        f"Left out of `validation-annotations-bbox.csv`: pictures not in `{root}/validation` (1), pictures "
        "there without a row (2), rows of Confidence 0 (1), rows that repeat another (1)."
    )


def test_where_all_is_there_nothing_is_said(root, capsys):
    (root / "validation-annotations-bbox.csv").write_text(boxes_csv([r for r in ROWS if r[0] != GONE]))
    assert len(load(root)) == 3
    assert capsys.readouterr().err == ""


def test_missing_pictures_are_counted_once_each_however_their_rows_lie(root, capsys):
    others = [f"{n:016x}" for n in range(7)]
    rows = [(image, "/m/0k4j", 0, 1, 0, 1, 0) for image in others * 3]
    (root / "validation-annotations-bbox.csv").write_text(boxes_csv([*rows, *ROWS]))
    load(root)
    assert "/validation` (8)." in capsys.readouterr().err


def test_a_picture_with_nothing_but_negative_rows_has_no_object(root):
    path = root / "validation-annotations-bbox.csv"
    path.write_text(
        path.read_text().replace(f"{MID},xclick,/m/011q46kg,1,", f"{MID},xclick,/m/011q46kg,0.0,")
    )
    data = load(root)
    assert [len(truth) for truth in data.annotations.truths] == [2, 0, 1]
    assert data.annotations.truths[1].boxes.shape == (0, 4)


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_an_unreadable_picture_is_named_when_it_is_loaded(root, content, capsys):
    (root / "validation" / f"{MID}.jpg").write_bytes(content)
    data = load(root)
    assert data.annotations.sizes[1].tolist() == [0, 0]
    capsys.readouterr()
    ((ids, sizes, targets),) = batches_from(0, data, (lambda picture: picture.size,), 4, 0)
    assert (ids, sizes) == ((data.image_ids[0], data.image_ids[2]), [(200, 100), (30, 40)])
    assert [len(target.truth) for target in targets] == [2, 1]
    assert f"{MID}.jpg" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match=MID):
        list(batches_from(0, load(root, skip_unreadable=False), (lambda picture: picture.size,), 4, 0))


def test_coordinates_a_little_outside_are_moved_to_the_edge(root):
    rows = [(LOW, "/m/0k4j", "-0.02", "1.0000001", "0.5", "1.05", 0)]
    (root / "validation-annotations-bbox.csv").write_text(boxes_csv(rows))
    assert load(root).annotations.truths[0].boxes.tolist() == [[0, 50, 200, 50]]


def test_big_tables_and_many_pictures_show_their_progress(root, monkeypatch, capsys):
    load(root)
    assert "reading" not in capsys.readouterr().err
    monkeypatch.setattr(open_images_tables, "BIG_FILE", 0)
    monkeypatch.setattr(open_images_tables, "ROWS_A_STEP", 2)
    monkeypatch.setattr(open_images, "MANY_PICTURES", 0)
    load(root)
    err = capsys.readouterr().err
    assert "reading validation-annotations-bbox.csv: 100%" in err
    assert "reading sizes: 100%" in err


# --- What is refused ---

BAD_ROWS = {
    "an unknown class": ((LOW, "/m/nope", 0, 1, 0, 1, 0), "3 described classes in line 2", "'/m/nope'"),
    "no class": ((LOW, "", 0, 1, 0, 1, 0), "line 2", "''"),
    "a word": ((LOW, "/m/0k4j", 0, "wide", 0, 1, 0), "numbers in XMin", "'wide'"),
    "no number": ((LOW, "/m/0k4j", 0, "", 0, 1, 0), "line 2", "''"),
    "NaN": ((LOW, "/m/0k4j", "nan", 1, 0, 1, 0), "in [0, 1] in line 2", "nan, 1, 0, 1"),
    "infinity": ((LOW, "/m/0k4j", 0, "inf", 0, 1, 0), "in [0, 1] in line 2", "inf"),
    "XMin above XMax": (
        (LOW, "/m/0k4j", 0.6, 0.5, 0, 1, 0),
        "XMin <= XMax and YMin <= YMax",
        "0.6, 0.5, 0, 1",
    ),
    "YMin above YMax": ((LOW, "/m/0k4j", 0, 1, 0.75, 0.5, 0), "line 2", "0, 1, 0.75, 0.5"),
    "pixels": ((LOW, "/m/0k4j", 10, 150, 20, 80, 0), "in [0, 1]", "10, 150, 20, 80"),
    "a group of 2": ((LOW, "/m/0k4j", 0, 1, 0, 1, 2), "IsGroupOf", "'2'"),
    "a group of nothing": ((LOW, "/m/0k4j", 0, 1, 0, 1, ""), "IsGroupOf", "''"),
    "a short ImageID": (
        ("26e7ee790996", "/m/0k4j", 0, 1, 0, 1, 0),
        "16 hexadecimal digits in line 2",
        "'26e7",
    ),
    "an ImageID that is a path": (("../../etc/passwd", "/m/0k4j", 0, 1, 0, 1, 0), "line 2", "'../../etc"),
    "an ImageID in capitals": ((LOW.upper(), "/m/0k4j", 0, 1, 0, 1, 0), "hexadecimal", LOW.upper()),
    "a column too many": ((LOW, "/m/0k4j", "0,0", 1, 0, 1, 0), "13 columns in line 2", "got 14"),
}


@pytest.mark.parametrize(("row", "says", "got"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_faulty_row_is_refused_by_its_line(root, row, says, got):
    path = root / "validation-annotations-bbox.csv"
    path.write_text(boxes_csv([row, *ROWS]))
    message = refusal(lambda: load(root))
    assert says in message
    assert got in message
    assert str(path) in message


def test_the_line_of_a_fault_further_down_is_that_of_an_editor(root):
    path = root / "validation-annotations-bbox.csv"
    path.write_text(boxes_csv([*ROWS, (LOW, "/m/0k4j", 0, 2, 0, 1, 0)]).replace("\n", "\r\n"), newline="")
    assert "in line 7 of" in refusal(lambda: load(root))


@pytest.mark.parametrize("confidence", ["0.7", "2", "-1", "", "nan", "sure"])
def test_a_confidence_that_is_neither_0_nor_1_is_refused(root, confidence):
    path = root / "validation-annotations-bbox.csv"
    path.write_text(path.read_text().replace("/m/0k4j,1,", f"/m/0k4j,{confidence},"))
    assert f"'{confidence}'" in refusal(lambda: load(root))


BAD_TABLES = {
    "nothing": (b"", "none with ImageID, LabelName"),
    "no header": (boxes_csv(ROWS).partition("\n")[2].encode(), "none with ImageID"),
    "a column missing": (boxes_csv(ROWS, V4.replace("XMax,", "")).encode(), "none with XMax"),
    "no rows": (V4.encode(), "got none of its 0 and 3 others"),
    "cut short": (boxes_csv(ROWS)[:-12].encode(), "13 columns in line 6"),
    "not UTF-8": (V4.encode() + b"\n\xff\xfe\n", "utf-8"),
    "a cell without end": (V4.encode() + b'\n"' + b"x" * 200_000, "field larger"),
    "labels of images": (
        f"ImageID,Source,LabelName,Confidence\n{LOW},x,/m/0k4j,0\n".encode(),
        "IsGroupOf, XMin",
    ),
}


@pytest.mark.parametrize(("content", "says"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_a_table_that_is_none_of_boxes_is_refused(root, content, says):
    (root / "validation-annotations-bbox.csv").write_bytes(content)
    message = refusal(lambda: load(root))
    assert says in message
    assert "validation-annotations-bbox.csv" in message


BAD_CLASSES = {
    "nothing": ("", "got none"),
    "only a header": ("LabelName,DisplayName\n", "got none"),
    "a class twice": ("\n".join([*CLASSES, "/m/0k4j,Bus"]), "/m/0k4j again in line 4"),
    "no name": ("/m/0k4j,\n", "line 1"),
    "one column": ("/m/0k4j\n", "line 1"),
    "names first": ("Tortoise,/m/011k07\n", "'Tortoise,/m/011k07'"),
    "something else": ("<html>\n", "<html>"),
}


@pytest.mark.parametrize(("content", "says"), BAD_CLASSES.values(), ids=BAD_CLASSES)
def test_faulty_classes_are_refused(root, content, says):
    path = root / "class-descriptions-boxable.csv"
    path.write_text(content)
    for call in (lambda: load(root), lambda: build_named("open_images", root=str(root))):
        message = refusal(call)
        assert says in message
        assert str(path) in message


def test_what_is_missing_is_named_with_where_to_get_it(root, tmp_path):
    where = "storage.googleapis.com/openimages"
    assert where in refusal(lambda: load(root, "test"))
    assert "oidv6-test-annotations-bbox.csv" in refusal(lambda: load(root, "test"))
    assert "nope.csv" in refusal(lambda: load(root, annotations=str(root / "nope.csv")))
    assert "Did you mean `validation`" in refusal(lambda: load(root, "valid"), ConfigError)
    assert "data.root" in refusal(lambda: build_data("open_images"), ConfigError)
    assert "data.root" in refusal(lambda: build_data("open_images", root=str(root)), ConfigError)
    (root / "validation").rename(root / "gone")
    assert "a folder of pictures" in refusal(lambda: load(root))
    (root / "validation").mkdir()
    message = refusal(lambda: load(root))
    assert "got none of its 4 and 0 others" in message
    assert where in message
    (root / "class-descriptions-boxable.csv").unlink()
    assert "oidv7-class-descriptions-boxable.csv" in refusal(lambda: load(root))


# --- Judged ---


def scattered(truth, size, generator):
    """Detections of one image: most near its objects, some elsewhere, some of another class."""
    boxes = np.repeat(truth.boxes, 3, axis=0) + generator.normal(0, 4, (3 * len(truth), 4))
    boxes[:, 2:] = np.abs(boxes[:, 2:])
    labels = np.repeat(truth.labels, 3)
    labels = np.where(generator.random(len(labels)) < 0.2, generator.integers(0, 3, len(labels)), labels)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return Detections(corners, generator.random(len(labels)), labels)


def write_crowded(root, generator):
    """30 pictures of three classes with groups; returns the same as a COCO ground truth, written by hand."""
    images, objects, rows = [], [], []
    (root / "test").mkdir()
    for _ in range(30):
        image = f"{int(generator.integers(0, 2**64, dtype=np.uint64)):016x}"
        width, height = (int(side) for side in generator.integers(60, 400, 2))
        Image.new("RGB", (width, height)).save(root / "test" / f"{image}.jpg")
        images.append(
            {"id": int(image[:13], 16), "file_name": f"{image}.jpg", "width": width, "height": height}
        )
        for _ in range(generator.integers(1, 8)):
            x0, x1 = sorted(generator.integers(0, 1001, 2) / 1000)
            y0, y1 = sorted(generator.integers(0, 1001, 2) / 1000)
            label, group = int(generator.integers(3)), int(generator.random() < 0.2)
            rows.append((image, CLASSES[label].partition(",")[0], str(x0), str(x1), str(y0), str(y1), group))
            box = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height]
            objects.append({
                "id": len(objects) + 1, "image_id": int(image[:13], 16), "category_id": label + 1,
                "bbox": box, "area": box[2] * box[3], "iscrowd": group,
            })  # fmt: skip
    (root / "test-annotations-bbox.csv").write_text(boxes_csv(rows))
    categories = [{"id": n, "name": cells[1]} for n, cells in enumerate(csv.reader(CLASSES), start=1)]
    return {"images": images, "categories": categories, "annotations": objects}


def test_pycocotools_gives_the_same_numbers_on_an_equivalent_file(root, tmp_path, capsys):
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    generator = np.random.default_rng(5)
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(write_crowded(root, generator)))
    data = load(root, "test")
    found = [
        scattered(own, size, generator)
        for own, size in zip(data.annotations.truths, data.annotations.sizes, strict=True)
    ]
    task = AveragePrecision()
    matches = task.match(found, [data.target(index) for index in range(len(data))])
    ours = task.metrics(matches)

    entries = [
        {"image_id": image, "category_id": int(label) + 1, "score": float(score),
         "bbox": [*map(float, box[:2]), *map(float, box[2:] - box[:2])]}
        for image, own in zip(data.annotations.image_ids, found, strict=True)
        for box, score, label in zip(own.boxes, own.scores, own.labels, strict=True)
    ]  # fmt: skip
    real = coco.COCO(str(truth))
    judged = evaluation.COCOeval(real, real.loadRes(entries), "bbox")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    np.testing.assert_allclose(list(ours.values()), judged.stats, atol=1e-12)
    assert 0.1 < ours["AP"] < 0.9

    write_annotations(data.annotations, tmp_path / "written.json.gz")
    again = build_data("coco", annotations=str(tmp_path / "written.json.gz"), images=str(root / "test"))
    assert again.annotations.image_ids == data.annotations.image_ids
    same = task.match(found, [again.target(index) for index in range(len(again))])
    assert task.metrics(same) == ours
