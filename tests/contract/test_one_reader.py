"""Odd pictures through every way in of both tasks: every verb sees the same levels, or says the same line."""

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ebjr_det import api
from ebjr_det.config import load_config, load_train_config
from ebjr_det.errors import InvalidInput
from ebjr_det.exported import load_exported
from ebjr_det.pictures import open_picture
from ebjr_det.tasks.classification.data import build_data as labelled
from ebjr_det.tasks.classification.preprocessing import Preprocessing
from ebjr_det.tasks.detection.data import build_data as annotated
from ebjr_det.tasks.detection.letterbox import Letterbox

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIDE, CLASSES = 8, 10  # the side of the exported digits' inputs
T = Image.Transpose
STORED = {
    # orientation -> how an upright picture is stored under it
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
Levels = np.ndarray


def noise(name: str, *channels: int, kind: type = np.uint8) -> Levels:
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(np.iinfo(kind).max + 1, size=(SIDE, SIDE, *channels), dtype=kind)


def colour_of(grey: Levels) -> Levels:
    return np.repeat(grey[..., None], 3, axis=2)


def saved(picture: Image.Image, **options) -> Callable[[Path], None]:
    return lambda path: picture.save(path, **options)


def tiff(levels: bytes, bits: int, photometric: int, signed: bool = False) -> bytes:
    """A grey TIFF of one strip, little-endian."""
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: SIDE}
    tags |= {279: len(levels), 339: 2 if signed else 1}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + levels


def png(levels: bytes, bits: int, colour: int, side: int = SIDE) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    row = len(levels) // side
    rows = b"".join(b"\0" + levels[at : at + row] for at in range(0, row * side, row)) if row else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def twelve_bits(levels: Levels) -> bytes:
    """Two levels in three bytes."""
    first, second = levels[:, ::2].astype(int), levels[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    return packed.astype(np.uint8).tobytes()


def exact() -> Iterator[tuple[str, Levels, Callable[[Path], object]]]:
    """Name, what must be seen, and what writes the file."""
    for name in ("rgb.png", "RGB.PNG", "rgb.bmp", "rgb.ppm", "rgb.tga", "rgb.tif", "rgb.pcx", "rgb.sgi"):
        levels = noise(name, 3)
        yield name, levels, saved(Image.fromarray(levels))
    for name in ("grey.png", "grey.pgm", "grey.tiff", "grey.gif", "grey.jp2"):
        grey = noise(name)
        yield name, colour_of(grey), saved(Image.fromarray(grey))
    still, other = noise("moving", 3), Image.fromarray(noise("other", 3))
    for name in ("moving.webp", "moving.apng", "pages.tif"):
        levels = noise(name, 3)
        lossless = {"lossless": True} if name.endswith("webp") else {}
        yield name, levels, saved(Image.fromarray(levels), save_all=True, append_images=[other], **lossless)
    palette = Image.fromarray(still).quantize(16)
    yield "palette.png", np.asarray(palette.convert("RGB")), saved(palette)
    seen = np.asarray(Image.fromarray(255 - still).quantize(16).convert("RGB"))
    yield "clear.png", seen, saved(Image.fromarray(255 - still).quantize(16), transparency=0)
    bits = noise("bits") > 127
    yield "bits.png", colour_of(255 * bits.astype(np.uint8)), saved(Image.fromarray(bits))
    for name, channels in (("la.png", 2), ("rgba.png", 4), ("rgba.webp", 4), ("rgba.tif", 4)):
        levels = noise(name, channels)  # colours under full transparency are seen too
        options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
        expected = colour_of(levels[..., 0]) if channels == 2 else levels[..., :3]
        yield name, expected, saved(Image.fromarray(levels), **options)
    cyan = noise("cyan", 3)
    inks = np.concatenate([cyan, np.zeros_like(cyan[..., :1])], axis=2)
    yield "inks.tif", 255 - cyan, saved(Image.fromarray(inks, "CMYK"))
    for name in ("deep.png", "deep.tif", "deep.pgm", "deep.jp2"):
        deep = noise(name, kind=np.uint16)
        yield name, colour_of((deep // 256).astype(np.uint8)), saved(Image.fromarray(deep))
    deep = noise("big-endian", kind=np.uint16)
    big = Image.frombytes("I;16B", (SIDE, SIDE), deep.astype(">u2").tobytes())
    yield "big_endian.tif", colour_of((deep // 256).astype(np.uint8)), saved(big)
    wide, narrow = noise("257"), noise("256")
    yield "by_257.png", colour_of(wide), saved(Image.fromarray(wide.astype(np.uint16) * 257))
    yield "by_256.png", colour_of(narrow), saved(Image.fromarray(narrow.astype(np.uint16) * 256))
    deep = noise("white is zero", kind=np.uint16)
    content = tiff(deep.astype("<u2").tobytes(), 16, photometric=0)
    expected = colour_of(((65535 - deep.astype(int)) // 256).astype(np.uint8))
    yield "white_is_zero.tif", expected, lambda path, content=content: path.write_bytes(content)
    twelve = noise("twelve", kind=np.uint16) // 16
    content = tiff(twelve_bits(twelve), 12, photometric=1)
    expected = colour_of((twelve // 16).astype(np.uint8))
    yield "twelve.tif", expected, lambda path, content=content: path.write_bytes(content)
    deep = noise("deep colours", 3, kind=np.uint16)
    content = png(deep.astype(">u2").tobytes(), 16, colour=2)
    yield (
        "deep_rgb.png",
        (deep // 256).astype(np.uint8),
        lambda path, content=content: path.write_bytes(content),
    )
    for orientation, how in STORED.items():
        suffix = (".png", ".webp", ".tif")[orientation % 3]
        name = f"turned_{orientation}{suffix}"
        levels, exif = noise(name, 3), Image.Exif()
        exif[0x0112] = orientation
        options = {"lossless": True} if suffix == ".webp" else {}
        yield name, levels, saved(Image.fromarray(levels).transpose(how), exif=exif, **options)


def near() -> Iterator[tuple[str, Levels, Callable[[Path], object]]]:
    """The same of formats that lose a little."""
    for name in ("a.jpg", "a.jfif", "a.JPEG", "a.avif", "a.mpo"):
        levels = noise(name, 3)
        options = {"subsampling": "4:4:4"} if "f" in name else {"subsampling": 0}
        more = {"save_all": True, "append_images": [Image.fromarray(255 - levels)]} if "mpo" in name else {}
        yield name, levels, saved(Image.fromarray(levels), quality=100, **options, **more)
    exif = Image.Exif()
    exif[0x0112] = 6
    levels = noise("turned.jpg", 3)
    turned = Image.fromarray(levels).transpose(STORED[6])
    yield "turned.jpg", levels, saved(turned, quality=100, subsampling=0, exif=exif)
    levels = noise("inks.jpg", 3)
    inks = Image.fromarray(levels).convert("CMYK")
    yield "inks.jpg", levels, saved(inks, quality=100, subsampling=0)  # as Adobe: inverted


def refused() -> Iterator[tuple[str, str, Callable[[Path], object]]]:
    """Name, a part of the line, and what writes the file."""
    unit = noise("unit", kind=np.uint16).astype(np.float32) / 65535
    yield "unit.tif", "floats", saved(Image.fromarray(unit))
    yield "levels.tif", "floats", saved(Image.fromarray(255 * unit))
    yield "floats.pfm", "floats", saved(Image.fromarray(unit))
    yield "long.tif", "integers of more than 16 bits", saved(Image.fromarray(noise("long").astype(np.int32)))
    signed = tiff(noise("signed", kind=np.uint16).tobytes(), 16, photometric=1, signed=True)
    yield "signed.tif", "with a sign", lambda path: path.write_bytes(signed)
    yield "text.png", "cannot identify", lambda path: path.write_text("no picture")
    yield "empty.jpg", "cannot identify", lambda path: path.write_bytes(b"")
    yield "huge.png", "decompression bomb", lambda path: path.write_bytes(png(b"", 8, 2, side=60_000))
    yield "large.png", "decompression bomb", lambda path: path.write_bytes(png(b"", 8, 2, side=10_000))
    whole = io.BytesIO()
    Image.fromarray(noise("cut", 3)).resize((64, 64)).save(whole, "JPEG")
    yield "cut.jpg", "truncated", lambda path: path.write_bytes(whole.getvalue()[:-400])


SEEN = {name: (levels, 0, write) for name, levels, write in exact()}
SEEN |= {name: (levels, 8, write) for name, levels, write in near()}
REFUSED = {name: (says, write) for name, says, write in refused()}


def place_of(name: str, names: list[str]) -> str:
    """Every class has some."""
    return f"{names.index(name) % CLASSES}/{name}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Readable pictures in class folders, annotated as well; half of them with their sizes."""
    root = tmp_path_factory.mktemp("odd")
    write(root / "readable", {name: SEEN[name][2] for name in SEEN})
    write(root / "all", {name: SEEN[name][2] for name in SEEN} | {n: REFUSED[n][1] for n in REFUSED})
    return root


def write(root: Path, writers: dict[str, Callable[[Path], object]]) -> None:
    for name in writers:
        path = root / place_of(name, list(writers))
        path.parent.mkdir(parents=True, exist_ok=True)
        writers[name](path)
    images = [
        {"id": at, "file_name": place_of(name, list(writers))}
        | ({"width": SIDE, "height": SIDE} if at % 2 and name in SEEN else {})
        for at, name in enumerate(writers, start=1)
    ]
    box = {"bbox": [1, 1, 6, 6], "area": 36, "iscrowd": 0, "category_id": 1}
    truth = {
        "images": images,
        "annotations": [box | {"id": one["id"], "image_id": one["id"]} for one in images],
        "categories": [{"id": n + 1, "name": str(n)} for n in range(CLASSES)],
    }
    (root.parent / f"{root.name}.json").write_text(json.dumps(truth))


def digest(picture: object) -> str:
    levels = np.asarray(picture)
    return f"{levels.dtype} {levels.shape} {hashlib.sha256(levels.tobytes()).hexdigest()}"


@pytest.fixture(scope="module")
def expected(folder) -> set[str]:
    """What is seen of the readable pictures, each once."""
    digests = {digest(open_picture(folder / "readable" / place_of(name, list(SEEN)))) for name in SEEN}
    assert len(digests) == len(SEEN) > 40
    return digests


@pytest.fixture
def seen(monkeypatch) -> set[str]:
    """Digests of all pictures that reach a network's preprocessing."""
    digests: set[str] = set()
    for kind in (Preprocessing, Letterbox):
        plain = kind.__call__

        def watched(self, image, plain=plain):
            digests.add(digest(image))
            return plain(self, image)

        monkeypatch.setattr(kind, "__call__", watched)
    return digests


# --- What is seen ---


@pytest.mark.parametrize("name", SEEN)
def test_an_odd_picture_has_the_levels_it_was_made_of(folder, name):
    expected, tolerance, _ = SEEN[name]
    picture = open_picture(folder / "readable" / place_of(name, list(SEEN)))
    assert (picture.mode, picture.size) == ("RGB", (SIDE, SIDE))
    np.testing.assert_allclose(np.asarray(picture).astype(int), expected.astype(int), atol=tolerance)


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_that_cannot_be_seen_right_is_one_line_for_either_task(folder, name):
    place = place_of(name, [*SEEN, *REFUSED])
    says, path = REFUSED[name][0], folder / "all" / place
    with pytest.raises(InvalidInput, match=f"Expected a readable picture, got `{path}`: .*{says}") as caught:
        open_picture(path)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    images = labelled("image_folder", str(folder / "all"))
    boxes = annotated("coco", annotations=str(folder / "all.json"), images=str(folder / "all"))
    for load, index in (
        (images.load, images.image_ids.index(place)),
        (boxes.load, boxes.annotations.file_names.index(place)),
    ):
        with pytest.raises(InvalidInput) as caught:
            load(index)
        assert str(caught.value) == line


# --- Every way in ---

QUICK = ["latency.measure=false", "run.bootstrap=2"]


def settings(task: str, *changes: str):
    name = {"classification": "digits", "detection": "quickstart"}[task]
    if task == "detection":  # what is seen is asked for, not what is found in it
        changes += ("teacher.image_size=128",)
    return load_config(CONFIGS / f"{name}.yaml", [*changes])


def data_of(task: str, root: Path) -> list[str]:
    if task == "classification":
        return ["data.dataset=image_folder", f"data.root={root}", "data.split=null"]
    return ["data.dataset=coco", f"data.annotations={root}.json", f"data.images={root}", "data.split=null"]


def lines_of(captured: str) -> set[str]:
    return {line for line in captured.splitlines() if line.startswith("Left out: ")}


def lines_for(root: Path) -> set[str]:
    lines = set()
    for name in REFUSED:
        with pytest.raises(InvalidInput) as caught:
            open_picture(root / place_of(name, [*SEEN, *REFUSED]))
        lines.add(f"Left out: {caught.value}")
    return lines


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_evaluate_sees_them(task, folder, expected, seen, tmp_path, capsys):
    """A classification stops at a picture that it cannot see."""
    root = folder / ("readable" if task == "classification" else "all")
    api.evaluate(settings(task, *data_of(task, root), *QUICK), tmp_path / "run")
    assert seen == expected
    if task == "detection":
        assert lines_of(capsys.readouterr().err) == lines_for(root)


@pytest.mark.parametrize("task", ["classification", "detection"])
@pytest.mark.parametrize("verb", ["predict", "demo"])
@pytest.mark.parametrize("exported", [False, True])
def test_predict_and_demo_see_them(task, verb, exported, folder, expected, seen, tmp_path, capsys, request):
    name = {"classification": "exported_digits", "detection": "exported_scenes"}[task]
    root = folder / "all"
    if exported:
        config = load_exported(request.getfixturevalue(name))
        seen.clear()  # of what the fixture's making saw
    else:
        config = settings(task, *data_of(task, folder / "readable"))
    if verb == "predict":
        summary = api.predict(config, [str(root)], tmp_path / "out", threshold=-0.9)
        assert summary["images"] == len(SEEN)
    else:
        summary = api.demo(config, str(root), tmp_path / "out.mp4", threshold=-0.9)
        assert summary["frames"] == len(SEEN)
    assert summary["unreadable"] == len(REFUSED)
    assert seen == expected
    assert lines_of(capsys.readouterr().err) == lines_for(root)


def training(task: str, root: Path) -> dict:
    if task == "classification":
        data = {"dataset": "image_folder", "root": str(root)}
        augment: dict = {"flip": 0.0}
        model = settings(task).student.model_dump(exclude_none=True)
        model = {key: model[key] for key in ("arch", "depth", "width", "preprocessing")}
    else:
        data = {"dataset": "coco", "annotations": f"{root}.json", "images": str(root)}
        augment = {"scale": [1.0, 1.0], "flip": 0.0, "color": 0.0}
        model = settings(task).student.model_dump(exclude_none=True)
        model = {key: model[key] for key in ("arch", "image_size", "options")}
    schedule = {"epochs": 2, "batch_size": 8, "device": "cpu", "workers": 0}
    return {"task": task, "data": data, "validation": dict(data), "model": model, "augment": augment} | {
        "schedule": schedule
    }


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_train_sees_them(task, folder, expected, seen, tmp_path, capsys, monkeypatch):
    """Before they are changed at random, and where the network is judged."""
    from ebjr_det.tasks import room

    root = folder / ("readable" if task == "classification" else "all")
    taught: set[str] = set()
    kind = room(task, "augmentation").TrainingSet
    plain = kind.__getitem__

    def watched(self, k):
        augment = self.augmentation

        class Watched:
            set_random_seed = staticmethod(augment.set_random_seed)

            def __call__(self, image, **rest):
                taught.add(digest(image))
                return augment(image=image, **rest)

        self.augmentation = Watched()
        try:
            return plain(self, k)
        finally:
            self.augmentation = augment

    monkeypatch.setattr(kind, "__getitem__", watched)
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(training(task, root)))
    api.train(load_train_config(tmp_path / "train.yaml"), tmp_path / "out")
    assert taught == expected
    assert seen == expected
    if task == "detection":
        assert lines_of(capsys.readouterr().err) == lines_for(root)
