"""Odd pictures through every way in of both tasks: every verb sees the same levels, or says the same line."""

import hashlib
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import STORED, stored_as
from PIL import Image

import ebjr_det
from ebjr_det.core.errors import InvalidInput
from ebjr_det.inference.exported import load_exported
from ebjr_det.io.pictures import open_picture, picture_formats
from ebjr_det.io.video.writing import VideoWriter
from ebjr_det.tasks.classification.data import build_data as labelled
from ebjr_det.tasks.classification.networks.preprocessing import Preprocessing
from ebjr_det.tasks.detection.data import build_data as annotated
from ebjr_det.tasks.detection.networks.letterbox import Letterbox
from ebjr_det.tasks.settings import load_config, load_train_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIDE, CLASSES = 8, 10  # the side of the exported digits' inputs
Levels = np.ndarray
pytestmark = pytest.mark.filterwarnings("ignore:IM image format is deprecated")  # by Pillow 13


def noise(name: str, *channels: int, kind: type = np.uint8) -> Levels:
    generator = np.random.default_rng(list(name.encode()))
    return generator.integers(np.iinfo(kind).max + 1, size=(SIDE, SIDE, *channels), dtype=kind)


def colour_of(grey: Levels) -> Levels:
    return np.repeat(grey[..., None], 3, axis=2)


def saved(picture: Image.Image, **options) -> Callable[[Path], None]:
    return lambda path: picture.save(path, **options)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def seen_of(picture: Image.Image, **options) -> tuple[Levels, Callable[[Path], None]]:
    return np.asarray(picture.convert("RGB")), saved(picture, **options)


def tiff(levels: bytes, bits: int, photometric: int, signed: bool = False) -> bytes:
    """A grey TIFF of one strip, little-endian."""
    tags = {256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: SIDE}
    tags |= {279: len(levels), 339: 2 if signed else 1}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + levels


def png(levels: bytes, bits: int, colour: int, side: int = SIDE) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

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


def icon(picture: Image.Image) -> bytes:
    """A Windows icon that holds a bitmap."""
    whole = io.BytesIO()
    picture.save(whole, "ICO", sizes=[picture.size], bitmap_format="bmp")
    return whole.getvalue()


def apple_icon(picture: Image.Image) -> bytes:
    """A Macintosh icon that holds a PNG."""
    whole = io.BytesIO()
    picture.save(whole, "PNG")
    entry = b"ic07" + struct.pack(">I", 8 + len(whole.getvalue())) + whole.getvalue()
    return b"icns" + struct.pack(">I", 8 + len(entry)) + entry


def fax(picture: Image.Image) -> bytes:
    """Pages of PCX."""
    whole = io.BytesIO()
    picture.save(whole, "PCX")
    return struct.pack("<III", 0x3ADE68B1, 12, 0) + whole.getvalue()


def photoshop(levels: Levels) -> bytes:
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, SIDE, SIDE, 8, 3)
    return header + bytes(12) + bytes(2) + levels.transpose(2, 0, 1).tobytes()


def sun(levels: Levels) -> bytes:
    return struct.pack(">8I", 0x59A66A95, SIDE, SIDE, 24, levels.size, 1, 0, 0) + levels[..., ::-1].tobytes()


def brush(levels: Levels) -> bytes:
    return struct.pack(">5I4sI", 29, 2, SIDE, SIDE, 4, b"GIMP", 10) + b"\0" + levels.tobytes()


def texture(levels: Levels) -> bytes:
    return struct.pack("<4s8i", b"FTEX", 0, SIDE, SIDE, 1, 1, 1, 32, levels.size) + levels.tobytes()


def pixar(levels: Levels) -> bytes:
    header = bytearray(1024)
    header[:4] = b"\200\350\000\000"
    struct.pack_into("<HH", header, 416, SIDE, SIDE)
    struct.pack_into("<HH", header, 424, 14, 2)
    return bytes(header) + levels.tobytes()


def pixmap(levels: Levels) -> bytes:
    rows = [[f"{SIDE * y + x:02}" for x in range(SIDE)] for y in range(SIDE)]
    colours = [f"{k:02} c #{bytes(one).hex()}" for k, one in enumerate(levels.reshape(-1, 3).tolist())]
    lines = [f"{SIDE} {SIDE} {SIDE * SIDE} 2", *colours, *("".join(row) for row in rows)]
    body = ",\n".join(f'"{line}"' for line in lines)
    return f"/* XPM */\nstatic char *x[] = {{\n{body}\n}};\n".encode()


def packed(levels: Levels, bits: int) -> bytes:
    """Levels of less than 8 bits, the first one highest."""
    ones = np.unpackbits(levels[..., None], axis=-1)[..., 8 - bits :]
    return np.packbits(ones.reshape(SIDE, -1), axis=1).tobytes()


def rare() -> Iterator[tuple[str, Levels, bytes]]:
    """Name, what must be seen, and the file of formats that Pillow does not write, or not so."""
    for name, make in (
        ("photoshop.psd", photoshop), ("sun.ras", sun), ("texture.ftu", texture), ("pixar.pxr", pixar),
        ("pixmap.xpm", pixmap),
    ):  # fmt: skip
        yield name, noise(name, 3), make(noise(name, 3))
    for name, make in (("icon.ico", icon), ("apple.icns", apple_icon), ("fax.dcx", fax)):
        yield name, noise(name, 3), make(Image.fromarray(noise(name, 3)))
    content = bytearray(icon(Image.fromarray(noise("cursor", 3))))
    content[2] = 2  # an icon with a hot spot
    yield "cursor.cur", noise("cursor", 3), bytes(content)
    levels = noise("brush", 4)
    yield "brush.gbr", levels[..., :3], brush(levels)
    grey = noise("im tools")
    head = f"width {SIDE}\nheight {SIDE}\npixel n8\n\x0c".encode()
    yield "im_tools.png", colour_of(grey), head + grey.tobytes()
    codes = noise("thumbnail").astype(int)
    seen = np.stack([(codes >> 5) * 255 // 7, (codes >> 2 & 7) * 255 // 7, (codes & 3) * 255 // 3], axis=-1)
    head = f"P7 332\n#END_OF_COMMENTS\n{SIDE} {SIDE} 255\n".encode()
    yield "thumbnail.png", seen.astype(np.uint8), head + codes.astype(np.uint8).tobytes()
    for bits in (1, 2, 4):
        few = noise(f"{bits} bits") >> (8 - bits)
        seen = few * np.uint8(255 // (2**bits - 1))
        yield f"grey_{bits}.png", colour_of(seen), png(packed(few, bits), bits, colour=0)


def exact() -> Iterator[tuple[str, Levels, Callable[[Path], object]]]:
    """Name, what must be seen, and what writes the file."""
    for name in (
        "rgb.png", "RGB.PNG", "rgb.bmp", "rgb.ppm", "rgb.tga", "rgb.tif", "rgb.pcx", "rgb.sgi", "rgb.dib",
        "rgb.ico", "rgb.qoi", "rgb.dds", "rgb.im",
    ):  # fmt: skip
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
    yield "palette.png", *seen_of(Image.fromarray(still).quantize(16))
    yield "clear.png", *seen_of(Image.fromarray(255 - still).quantize(16), transparency=0)
    yield "two_bits.png", *seen_of(Image.fromarray(noise("two bits", 3)).quantize(4), bits=2)
    yield "palette.blp", *seen_of(Image.fromarray(noise("blizzard", 3)).quantize(16))
    for name in ("bits.png", "bits.msp", "bits.xbm", "bits.tif"):
        bits = noise(name) > 127
        yield name, colour_of(255 * bits.astype(np.uint8)), saved(Image.fromarray(bits))
    for name, levels, content in rare():
        yield name, levels, written(content)
    for name in ("la.png", "la.tif", "rgba.png", "rgba.webp", "rgba.tif", "rgba.qoi"):
        channels = 2 if name.startswith("la") else 4
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
    yield "white_is_zero.tif", expected, written(content)
    twelve = noise("twelve", kind=np.uint16) // 16
    content = tiff(twelve_bits(twelve), 12, photometric=1)
    yield "twelve.tif", colour_of((twelve // 16).astype(np.uint8)), written(content)
    deep = noise("deep colours", 3, kind=np.uint16)
    content = png(deep.astype(">u2").tobytes(), 16, colour=2)
    yield "deep_rgb.png", (deep // 256).astype(np.uint8), written(content)
    for orientation in [*STORED][1:]:
        suffix = (".png", ".webp", ".tif")[orientation % 3]
        name = f"turned_{orientation}{suffix}"
        levels = noise(name, 3)
        turned, exif = stored_as(Image.fromarray(levels), orientation)
        options = {"lossless": True} if suffix == ".webp" else {}
        yield name, levels, saved(turned, exif=exif, **options)


def lab_of(levels: Levels) -> Levels:
    """CIE's L*a*b* under D50 of sRGB (IEC 61966-2-1, Bradford's adaptation), a and b signed as in TIFF."""
    share = levels / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_d50 = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169]]
    to_d50 += [[0.0139322, 0.0971045, 0.7141733]]
    x, y, z = np.moveaxis(np.cbrt(linear @ np.transpose(to_d50) / [0.96422, 1, 0.82521]), -1, 0)
    lab = np.stack([(116 * y - 16) * 2.55, 500 * (x - y), 200 * (y - z)], axis=-1)
    return lab.round().astype(np.int16).astype(np.uint8)


def near() -> Iterator[tuple[str, Levels, Callable[[Path], object]]]:
    """The same of formats that lose a little."""
    for name in ("a.jpg", "a.jfif", "a.JPEG", "a.avif", "a.mpo"):
        levels = noise(name, 3)
        options = {"subsampling": "4:4:4"} if "f" in name else {"subsampling": 0}
        more = {"save_all": True, "append_images": [Image.fromarray(255 - levels)]} if "mpo" in name else {}
        yield name, levels, saved(Image.fromarray(levels), quality=100, **options, **more)
    levels = noise("turned.jpg", 3)
    turned, exif = stored_as(Image.fromarray(levels), 6)
    yield "turned.jpg", levels, saved(turned, quality=100, subsampling=0, exif=exif)
    luma = noise("luma", 3)
    y, cb, cr = np.moveaxis(luma.astype(float), -1, 0) - np.array([0, 128, 128])[:, None, None]
    levels = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    yield "luma.tif", levels.round().clip(0, 255).astype(np.uint8), saved(Image.fromarray(luma, "YCbCr"))
    levels = noise("luma.jpg", 3)
    luma = Image.fromarray(levels).convert("YCbCr")
    yield "luma.jpg", levels, saved(luma, quality=100, subsampling=0)
    levels = noise("lab", 3) // 2 + 64  # of which 8 bits of Lab hold all well
    yield "lab.tif", levels, saved(Image.fromarray(lab_of(levels), "LAB"))
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
    yield "signed.tif", "with a sign", written(signed)
    yield "text.png", "cannot identify", written(b"no picture")
    yield "empty.jpg", "cannot identify", written(b"")
    yield "huge.png", "decompression bomb", written(png(b"", 8, 2, side=60_000))
    yield "large.png", "decompression bomb", written(png(b"", 8, 2, side=10_000))
    whole = io.BytesIO()
    Image.fromarray(noise("cut", 3)).resize((64, 64)).save(whole, "JPEG")
    yield "cut.jpg", "truncated", written(whole.getvalue()[:-400])


SEEN = {name: (levels, 0, write) for name, levels, write in exact()}
SEEN |= {name: (levels, 8, write) for name, levels, write in near()}
UNSEEN = {"PCD"}  # a format whose pictures have one size, 768 x 512
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


@pytest.fixture(autouse=True)
def _nothing_is_drawn(monkeypatch):
    """No figures, and of a film its first frame: what is seen of pictures is asked for, not what is drawn."""
    add = VideoWriter.add

    def added(self, picture, *times):
        if self.frames:
            self.frames += 1
        else:
            add(self, picture, *times)

    monkeypatch.setattr(VideoWriter, "add", added)
    monkeypatch.setattr("ebjr_det.reporting.write.write_figures", lambda *_: {})


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


def test_there_is_one_of_every_format_that_is_opened(folder):
    seen = set()
    for path in (folder / "readable").rglob("*.*"):
        with Image.open(path) as opened:
            seen.add(str(opened.format).upper())
    assert {*picture_formats()} - seen == UNSEEN


# --- Every way in ---

PAIRS = {"classification": "digits", "detection": "quickstart"}
QUICK = ["latency.measure=false", "run.bootstrap=2"]


def settings(task: str, *changes: str):
    """What is seen is asked for, not what is found in it: the student stands in for its teacher too."""
    config = load_config(CONFIGS / f"{PAIRS[task]}.yaml", ["student.macs=1e6", *changes])
    return config.model_copy(update={"teacher": config.student.model_copy(update={"name": "teacher"})})


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
    ebjr_det.evaluate(settings(task, *data_of(task, root), *QUICK), tmp_path / "run")
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
        summary = ebjr_det.predict(config, [str(root)], tmp_path / "out", threshold=-0.9)
        assert summary.images == len(SEEN)
    else:
        summary = ebjr_det.demo(config, str(root), tmp_path / "out.mp4", threshold=-0.9)
        assert summary.frames == len(SEEN)
    assert summary.unreadable == len(REFUSED)
    assert seen == expected
    assert lines_of(capsys.readouterr().err) == lines_for(root)


def training(task: str, root: Path) -> dict:
    if task == "classification":
        data = {"dataset": "image_folder", "root": str(root)}
        augment: dict = {"flip": 0.0}
        keys = ("arch", "depth", "width", "preprocessing")
    else:
        data = {"dataset": "coco", "annotations": f"{root}.json", "images": str(root)}
        augment = {"scale": [1.0, 1.0], "flip": 0.0, "color": 0.0}
        keys = ("arch", "image_size", "options")
    student = settings(task).student.model_dump(exclude_none=True)
    how = {"model": {key: student[key] for key in keys}, "augment": augment}
    how["schedule"] = {"epochs": 2, "batch_size": 8, "device": "cpu", "workers": 0}
    return {"task": task, "data": data, "validation": dict(data), **how}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "detection"])
def test_train_sees_them(task, folder, expected, seen, tmp_path, capsys, monkeypatch):
    """Before they are changed at random, and where the network is judged."""

    root = folder / ("readable" if task == "classification" else "all")
    taught: set[str] = set()
    kind = import_module(f"ebjr_det.tasks.{task}.augmentation").TrainingSet
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
    ebjr_det.train(load_train_config(tmp_path / "train.yaml"), tmp_path / "out")
    assert taught == expected
    assert seen == expected
    if task == "detection":
        assert lines_of(capsys.readouterr().err) == lines_for(root)


def test_export_tries_a_classifiers_graph_on_them(folder, expected, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[ebjr_det.export.__module__], "SAMPLES", len(SEEN))
    config = settings("classification", *data_of("classification", folder / "readable"))
    ebjr_det.export(config, tmp_path / "out", threshold=-0.9)
    assert seen == expected


def test_export_tries_a_detectors_graph_on_none_of_them(folder, expected, tmp_path, monkeypatch, capsys):
    """It reads the names of the classes alone, whatever the pictures are."""

    class Enough(Exception):
        """What comes now takes its time."""

    def side(name, model, section, pictures):
        raise Enough({digest(picture) for picture in pictures})

    monkeypatch.setattr(sys.modules[ebjr_det.export.__module__], "_side", side)
    config = settings("detection", *data_of("detection", folder / "all"))
    with pytest.raises(Enough) as caught:
        ebjr_det.export(config, tmp_path / "out", threshold=-0.9)
    assert caught.value.args[0]
    assert caught.value.args[0].isdisjoint(expected)
    assert not lines_of(capsys.readouterr().err)


@pytest.mark.parametrize("name", REFUSED)
def test_a_classifiers_verbs_stop_at_a_picture_that_cannot_be_seen_with_its_line(name, tmp_path):
    root, (_, write) = tmp_path / "data", REFUSED[name]
    for digit in range(CLASSES):
        (root / str(digit)).mkdir(parents=True)
        SEEN["rgb.png"][2](root / str(digit) / "rgb.png")
    write(path := root / "0" / f"z_{name}")  # the second of all
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(training("classification", root)))
    with pytest.raises(InvalidInput) as told:
        open_picture(path)
    config = settings("classification", *data_of("classification", root), *QUICK)
    verbs = {
        "evaluate": lambda out: ebjr_det.evaluate(config, out),
        "export": lambda out: ebjr_det.export(config, out, threshold=-0.9),
        "train": lambda out: ebjr_det.train(load_train_config(tmp_path / "train.yaml"), out),
    }
    for verb, call in verbs.items():
        with pytest.raises(InvalidInput) as caught:
            call(tmp_path / verb)
        assert str(caught.value) == str(told.value)
