"""Pictures of every kind become RGB, damaged ones are named; files, folders and patterns are found."""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from ebjr_det.core.errors import InvalidInput
from ebjr_det.io.lettering import with_strip
from ebjr_det.io.picture_folders import find_pictures, pictures_below
from ebjr_det.io.pictures import open_picture, picture_suffixes, stored_size

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
    np.testing.assert_array_equal(opened, (ramp >> 8)[..., None].repeat(3, 2))


# --- Orientation ---


@pytest.mark.parametrize("orientation", TURNED_BY)
def test_a_picture_is_turned_as_its_camera_says(tmp_path, orientation):
    path = with_orientation(tmp_path / "x.png", orientation)
    how = TURNED_BY[orientation]
    expected = colours() if how is None else colours().transpose(how)
    np.testing.assert_array_equal(pixels(open_picture(path)), pixels(expected))


@pytest.mark.parametrize("orientation", TURNED_BY)
@pytest.mark.parametrize("shape", [WIDE, (6, 6)])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_a_picture_annotated_as_it_is_seen_is_turned(tmp_path, orientation, shape, suffix):
    """Also where it has the same size either way: half turns, mirrors, squares."""
    exif, seen = Image.Exif(), colours(*shape)
    exif[0x0112] = orientation
    back = {6: TURNED_BY[8], 8: TURNED_BY[6]}.get(orientation, TURNED_BY[orientation])
    stored = seen if back is None else seen.transpose(back)
    stored.save(tmp_path / f"x{suffix}", exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    for size in (shape, (0, 0)):
        np.testing.assert_array_equal(pixels(open_picture(tmp_path / f"x{suffix}", size)), pixels(seen))


@pytest.mark.parametrize("orientation", TURNED_BY)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_set_whose_boxes_were_drawn_on_stored_pictures_sees_them_so(tmp_path, orientation, suffix):
    path = with_orientation(tmp_path / f"x{suffix}", orientation)
    for size in (WIDE, (0, 0)):
        np.testing.assert_array_equal(pixels(open_picture(path, size, as_stored=True)), pixels(colours()))
    assert stored_size(path) == WIDE


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


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InvalidInput, match=r"pipe\.jpg.*no regular file"):
        open_picture(tmp_path / "pipe.jpg")
    assert stored_size(tmp_path / "pipe.jpg") == (0, 0)


def test_a_drawing_that_pillow_gives_to_another_program_is_no_picture(tmp_path):
    colours().save(tmp_path / "drawing.eps")
    (tmp_path / "drawing.eps").rename(tmp_path / "drawing.jpg")
    with pytest.raises(InvalidInput, match="cannot identify"):
        open_picture(tmp_path / "drawing.jpg")


def test_a_bomb_is_refused_whatever_filters_other_threads_set(tmp_path, monkeypatch):
    monkeypatch.setattr(warnings, "simplefilter", lambda *_, **__: None)
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    with pytest.raises(InvalidInput, match="decompression bomb"):
        open_picture(bomb(tmp_path / "bomb.png", 10_000, 9_999))


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


def test_the_suffixes_are_those_of_pictures_that_pillow_opens():
    pictures = {
        ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif", ".mpo",
    }  # fmt: skip
    if features.check("avif"):
        pictures.add(".avif")
    assert pictures < picture_suffixes()
    assert picture_suffixes().isdisjoint({".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".wmf", ".h5", ".fits", ""})


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jfif", ".gif", ".avif", ".jp2", ".mpo"])
def test_a_folder_has_pictures_of_every_suffix(tmp_path, suffix):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    colours().save(tmp_path / f"x{suffix}")
    (found,) = find_pictures([str(tmp_path)])
    assert open_picture(found).size == WIDE


def test_links_are_followed_but_not_in_circles(folder, tmp_path_factory, capsys):
    other = tmp_path_factory.mktemp("other")
    for name in ("1.png", "down/2.png"):
        (other / name).parent.mkdir(exist_ok=True)
        colours().save(other / name)
    (other / "back").symlink_to(folder)
    (folder / "linked").symlink_to(other)
    (folder / "self").symlink_to(".")
    (folder / "deep" / "up").symlink_to("..")
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "one.png").symlink_to(other / "1.png")
    assert found_in(folder, ".") == [
        "a.PNG", "b.jpg", "deep/c.webp", "deep/down/d.tiff", "gone.png", "linked/1.png",
        "linked/down/2.png", "one.png", "sp ace.jpg", "x[1].jpg",
    ]  # fmt: skip
    assert "no pictures (1)" in capsys.readouterr().err
    with pytest.raises(InvalidInput, match=r"gone\.png.*No such file"):
        open_picture(folder / "gone.png")


def test_a_relative_folder_is_walked_as_an_absolute_one(folder, monkeypatch):
    (folder / "deep" / "up").symlink_to("..")
    monkeypatch.chdir(folder)
    expected = {path.relative_to(folder) for path in pictures_below(folder)[0]}
    assert set(pictures_below(Path("."))[0]) == expected
    assert len(expected) == 6


def test_hidden_and_other_files_are_left_out_and_said(folder, capsys):
    (folder / ".ipynb_checkpoints").mkdir()
    colours().save(folder / ".ipynb_checkpoints" / "b.png")
    (folder / "deep" / "._c.webp").write_bytes(b"?")
    assert len(found_in(folder, ".")) == 6
    said = "hidden files and folders (2), files that are no pictures (1)"
    assert capsys.readouterr().err == f"Left out of `{folder}`: {said}.\n"
    assert found_in(folder, ".ipynb_checkpoints", "deep/._c.webp") == [
        ".ipynb_checkpoints/b.png", "deep/._c.webp",
    ], "their names were given"  # fmt: skip


def test_a_folder_that_cannot_be_read_is_an_error(folder, monkeypatch):
    """Its pictures would be missing without a word. (A superuser may read all, so it is made up.)"""
    scan = os.scandir

    def refuse(place):
        if str(place).endswith("down"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InvalidInput, match=r"folder that can be read, got `.*down`: Permission denied"):
        find_pictures([str(folder)])


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
