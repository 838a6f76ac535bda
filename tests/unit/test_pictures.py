"""Pictures of every kind become RGB, damaged ones are named; files, folders and patterns are found."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ebjr_det.errors import InvalidInput
from ebjr_det.pictures import find_pictures, open_picture, with_strip

WIDE = (8, 5)
TURNED_BY = {
    # EXIF orientation: how a picture must be turned to be seen as its camera saw it
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def colours(width=WIDE[0], height=WIDE[1], seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8))


def pixels(picture):
    return np.asarray(picture).astype(int)


def with_orientation(path, orientation, picture=None):
    """A PNG, so that its pixels are exact, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    (picture or colours()).save(path, exif=exif)
    return path


# --- Modes ---


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "RGB", "I;16"])
def test_every_mode_becomes_rgb_of_the_same_size(tmp_path, mode):
    grey = colours().convert("L")
    picture = Image.fromarray(np.full((5, 8), 700, np.uint16)) if mode == "I;16" else grey.convert(mode)
    assert picture.mode == mode
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    picture.save(path)
    opened = open_picture(path, WIDE)
    assert (opened.mode, opened.size) == ("RGB", WIDE)
    if mode in ("L", "LA", "CMYK", "RGBA"):
        np.testing.assert_allclose(pixels(opened), pixels(grey)[..., None].repeat(3, 2), atol=1)


def test_a_palette_and_a_cmyk_picture_keep_their_colours(tmp_path):
    red = Image.new("RGB", (4, 4), (200, 0, 0))
    red.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    red.convert("CMYK").save(tmp_path / "c.jpg", quality=95)
    for name in ("p.png", "c.jpg"):
        np.testing.assert_allclose(pixels(open_picture(tmp_path / name))[2, 2], (200, 0, 0), atol=6)


def test_sixteen_bits_of_grey_become_eight(tmp_path):
    """Dark to bright must stay dark to bright, not end in white above 255."""
    ramp = np.linspace(0, 65535, 8).astype(np.uint16)[None].repeat(5, 0)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    opened = pixels(open_picture(tmp_path / "ramp.png"))
    np.testing.assert_allclose(opened, (ramp.astype(int) >> 8)[..., None].repeat(3, 2), atol=1)


# --- Orientation ---


@pytest.mark.parametrize("orientation", TURNED_BY)
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    path = with_orientation(tmp_path / "x.png", orientation)
    how = TURNED_BY[orientation]
    expected = colours() if how is None else colours().transpose(how)
    np.testing.assert_array_equal(pixels(open_picture(path)), pixels(expected))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_annotated_size_decides_whether_a_picture_is_turned(tmp_path, orientation):
    path = with_orientation(tmp_path / "x.png", orientation)
    np.testing.assert_array_equal(pixels(open_picture(path, WIDE)), pixels(colours()))
    turned = colours().transpose(TURNED_BY[orientation])
    np.testing.assert_array_equal(pixels(open_picture(path, WIDE[::-1])), pixels(turned))


def test_an_unknown_orientation_is_no_reason_to_turn(tmp_path):
    path = with_orientation(tmp_path / "x.png", 9)
    np.testing.assert_array_equal(pixels(open_picture(path)), pixels(colours()))


def test_an_annotated_size_that_fits_neither_way_is_named_with_both(tmp_path):
    path = with_orientation(tmp_path / "x.png", 6)
    with pytest.raises(InvalidInput, match=r"x\.png.*annotated size 7 x 5, got 5 x 8"):
        open_picture(path, (7, 5))
    colours().save(tmp_path / "plain.png")
    with pytest.raises(InvalidInput, match=r"annotated size 5 x 8, got 8 x 5"):
        open_picture(tmp_path / "plain.png", (5, 8))


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (8, 0)])
def test_an_unknown_annotated_size_asks_for_nothing(tmp_path, size):
    colours().save(tmp_path / "x.png")
    assert open_picture(tmp_path / "x.png", size).size == WIDE


# --- Damage ---


def bomb(path, width=60_000, height=60_000):
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 9_999)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, size):
    with pytest.raises(InvalidInput, match=r"bomb\.png.*decompression bomb"):
        open_picture(bomb(tmp_path / "bomb.png", *size))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tif", ".ppm"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_truncated_picture_is_named_in_one_line(tmp_path, suffix, kept):
    path = tmp_path / f"cut{suffix}"
    colours(64, 64).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(InvalidInput, match=rf"cut\{suffix}") as caught:
        open_picture(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"\xff", b"hello", b"<html>", b"\x89PNG\r\n\x1a\n", b"\0" * 999])
def test_what_is_no_picture_is_named_in_one_line(tmp_path, content):
    (tmp_path / "text.jpg").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"readable picture, got `.*text\.jpg`") as caught:
        open_picture(tmp_path / "text.jpg")
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_gone_a_folder_and_an_impossible_name_are_named(tmp_path):
    for path in (tmp_path / "gone.jpg", tmp_path, tmp_path / "a\0b.jpg", tmp_path / ("n" * 5000)):
        with pytest.raises(InvalidInput, match="readable picture"):
            open_picture(path)


# --- Where they lie ---


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "deep/c.webp", "deep/down/d.tiff", "x[1].jpg", "sp ace.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def found_in(folder, *names):
    return [path.relative_to(folder).as_posix() for path in find_pictures([str(folder / n) for n in names])]


def test_a_folder_is_all_pictures_below_it_in_order(folder):
    assert found_in(folder, ".") == [
        "a.PNG", "b.jpg", "deep/c.webp", "deep/down/d.tiff", "sp ace.jpg", "x[1].jpg",
    ]  # fmt: skip


def test_a_file_is_taken_as_it_is_and_a_pattern_is_expanded(folder):
    assert found_in(folder, "notes.txt") == ["notes.txt"], "its name was given: whatever it is called"
    assert found_in(folder, "*.jpg") == ["b.jpg", "sp ace.jpg", "x[1].jpg"]
    assert found_in(folder, "x[1].jpg") == ["x[1].jpg"], "a file before a pattern"
    assert found_in(folder, "**/*.tiff") == ["deep/down/d.tiff"]


def test_the_order_is_that_of_the_names_and_each_picture_comes_once(folder):
    assert found_in(folder, "b.jpg", "a.PNG", "*.jpg", "b.jpg")[:2] == ["b.jpg", "a.PNG"]
    assert found_in(folder, "deep", "deep/down", "deep/c.webp") == ["deep/c.webp", "deep/down/d.tiff"]
    assert found_in(folder, "deep/../b.jpg", "b.jpg", "./b.jpg") == ["deep/../b.jpg"], "one file"


@pytest.mark.parametrize(
    "name", ["none.jpg", "*.gif", "folder.jpg", "no/such/folder", "", "a\0b", "[", "n" * 5000]
)
def test_a_name_without_pictures_is_refused(folder, name):
    with pytest.raises(InvalidInput, match="Expected pictures at"):
        found_in(folder, "b.jpg", name) if name else find_pictures([name])


# --- The strip ---


@pytest.mark.parametrize("size", [(1, 1), (9, 30), (640, 480), (3000, 10)])
@pytest.mark.parametrize("text", ["", "student", "a long text that no small picture is wide enough for " * 3])
def test_a_strip_of_text_leaves_the_picture_whole_below_it(size, text):
    picture = colours(*size)
    whole = with_strip(picture, text, "#0072B2")
    strip = whole.height - picture.height
    assert whole.width == picture.width
    np.testing.assert_array_equal(pixels(whole)[strip:], pixels(picture))
    np.testing.assert_array_equal(pixels(whole)[0, 0], (0x00, 0x72, 0xB2))
    inked = (pixels(whole)[:strip] == 255).any()
    assert inked == (bool(text) and size[0] > 600)
