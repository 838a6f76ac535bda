"""One annotated set, written in COCO's, YOLO's and VOC's form."""

import json

import numpy as np
import yaml
from PIL import Image

CLASSES = ("bee", "ant", "cow")  # not by alphabet
SIZES = {"0007": (500, 375), "0012": (333, 500), "0101": (640, 427), "0102": (77, 91), "0200": (60, 50)}
EMPTY = ("0102", "0200")


def objects_of(stem):
    """(class, x, y, width, height), whole pixels, the last one in the picture's corner."""
    if stem in EMPTY:
        return []
    generator, (width, height) = np.random.default_rng(int(stem)), SIZES[stem]
    rows = []
    for _ in range(5):
        x, y = generator.integers(width - 20), generator.integers(height - 20)
        rows.append([int(generator.integers(3)), int(x), int(y), *map(int, generator.integers(3, 20, 2))])
    rows[-1][1:] = [width - 19, height - 11, 19, 11]
    return rows


def draw(folder, stems=tuple(SIZES)):
    folder.mkdir(parents=True)
    for stem in stems:
        width, height = SIZES[stem]
        pixels = np.random.default_rng(int(stem)).integers(256, size=(height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}.png")


def yolo_line(row, size):
    label, x, y, w, h = row
    return f"{label} {(x + w / 2) / size[0]!r} {(y + h / 2) / size[1]!r} {w / size[0]!r} {h / size[1]!r}"


def write_yolo(root, changes=None):
    draw(root / "images" / "val")
    (root / "labels" / "val").mkdir(parents=True)
    for stem, size in SIZES.items():
        if stem != EMPTY[0]:
            lines = [yolo_line(row, size) for row in objects_of(stem)]
            (root / "labels" / "val" / f"{stem}.txt").write_text("\n".join(lines))
    content = {"train": "images/val", "val": "images/val", "names": list(CLASSES)} | (changes or {})
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return {"dataset": "yolo", "annotations": str(root / "data.yaml"), "split": "val"}


def voc_xml(stem, first=1, difficult=0, extra=""):
    width, height = SIZES[stem]
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><difficult>{difficult}</difficult><bndbox><xmin>{x + first}"
        f"</xmin><ymin>{y + first}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>{extra}</object>"
        for label, x, y, w, h in objects_of(stem)
    )
    return (
        f"<annotation><filename>{stem}.png</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def write_voc(root, first=1, **changes):
    draw(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for stem in SIZES:
        (root / "Annotations" / f"{stem}.xml").write_text(voc_xml(stem, first, **changes))
    (root / "ImageSets" / "Main" / "val.txt").write_text("\n".join(SIZES))
    (root / "ImageSets" / "Main" / "bee_val.txt").write_text("\n".join(f"{stem} -1" for stem in SIZES))
    return {"dataset": "voc", "root": str(root), "split": "val", "classes": list(CLASSES)}


def coco_content():
    images = [
        {"id": int(stem), "file_name": f"{stem}.png", "width": size[0], "height": size[1]}
        for stem, size in SIZES.items()
    ]
    objects = [
        {"image_id": int(stem), "category_id": row[0] + 1, "bbox": row[1:], "iscrowd": 0}
        for stem in SIZES
        for row in objects_of(stem)
    ]
    objects = [entry | {"id": n} for n, entry in enumerate(objects, start=1)]
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": objects, "categories": categories}


def write_coco(root, content=None):
    draw(root / "images")
    (root / "truth.json").write_text(json.dumps(content or coco_content()))
    return {"dataset": "coco", "annotations": str(root / "truth.json"), "images": str(root / "images")}


WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc}
