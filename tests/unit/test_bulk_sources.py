"""Where a job's pictures come from: every packing, made by the libraries that people pack with."""

import io
import os
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ebjr_det.bulk.reader import PictureReader
from ebjr_det.bulk.sources import find_rows, stamp_of
from ebjr_det.core.errors import InvalidInput, Unreachable
from ebjr_det.io.picture_folders import find_pictures

NAMES = ("a.png", "a/1.png", "a/2.jpg", "a-b/3.webp", "b.PNG", "c/d/4.png")
"""In an order of paths that is not that of their letters."""


def encoded(name, seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    form = {".jpg": "jpeg", ".webp": "webp"}.get(Path(name).suffix.lower(), "png")
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


CONTENTS = {name: encoded(name, seed) for seed, name in enumerate(NAMES)}
INNER_ORDER = sorted(NAMES, key=lambda name: name.split("/"))


@pytest.fixture
def folder(tmp_path):
    for name, content in CONTENTS.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "pictures/notes.md").write_text("no picture")
    (tmp_path / "pictures/.hidden.png").write_bytes(b"")
    return tmp_path / "pictures"


def pixels_of(source, column=""):
    """The pictures of a source, read as a stage does."""
    rows, read = list(find_rows(str(source), column)), PictureReader()
    read.fetch(rows)
    return [np.asarray(read(row)) for row in rows]


def write_tar(path, names=INNER_ORDER):
    with tarfile.open(path, "w") as archive:
        for name in names:
            for inner, content in ((name, CONTENTS[name]), (f"{name}.json", b"{}")):
                member = tarfile.TarInfo(f"./{inner}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def packed(kind, folder):
    """The source of a kind that has all pictures of the folder."""
    out, contents = folder.parent, [CONTENTS[name] for name in INNER_ORDER]
    match kind:
        case "url":
            return f"file://{folder}"
        case "pattern":
            return folder / "**/*.[pjwP]*"
        case "list":
            (folder / "list.txt").write_text("\n\n".join(f" {name}\r" for name in INNER_ORDER), "utf-8-sig")
            return folder / "list.txt"
        case "tar":
            write_tar(out / "pictures.tar")
            return out / "pictures.tar"
        case "shards":
            for number in range(2):
                write_tar(out / f"shard-{number:03d}.tar", INNER_ORDER[3 * number : 3 * number + 3])
            return out / "shard-{000..001}.tar"
        case "list of shards":
            packed("shards", folder)
            (out / "shards.txt").write_text("shard-000.tar\nshard-001.tar\n")
            return out / "shards.txt"
        case "folder of shards":
            (out / "deep/er").mkdir(parents=True)
            for number in range(2):
                write_tar(out / f"deep/er/{number}.tar", INNER_ORDER[3 * number : 3 * number + 3])
            return out / "deep"
        case "bytes":
            pq.write_table(
                pa.table({"img": contents, "label": range(6)}), out / "p.parquet", row_group_size=4
            )
            return out / "p.parquet"
        case "hugging face":
            images = [
                {"bytes": content, "path": name} for content, name in zip(contents, INNER_ORDER, strict=True)
            ]
            images[2] = {"bytes": None, "path": f"pictures/{INNER_ORDER[2]}"}
            pq.write_table(pa.table({"photo": images, "jpg": INNER_ORDER}), out / "p.parquet")
            return out / "p.parquet"
        case "paths":
            table = pa.table({"file_name": [f"pictures/{name}" for name in INNER_ORDER]})
            pq.write_table(table, out / "p.parquet")
            return out / "p.parquet"
        case "categories":
            column = pa.array([str(folder / name) for name in INNER_ORDER]).dictionary_encode()
            pq.write_table(pa.table({"path": column}), out / "p.parquet")
            return out / "p.parquet"
        case "zip":
            with zipfile.ZipFile(out / "pictures.zip", "w") as archive:
                for name, content in CONTENTS.items():
                    archive.writestr(name, content)
            return f"zip://::{out}/pictures.zip"
        case "zip pattern":
            return packed("zip", folder).replace("zip://", "zip://**/*.*")
        case "memory":
            memory = fsspec.filesystem("memory")
            for name, content in CONTENTS.items():
                memory.pipe_file(f"/{out.name}/{name}", content)
            memory.pipe_file(f"/{out.name}/.hidden.png", b"")
            return f"memory://{out.name}"
        case "list at an address":
            address = packed("memory", folder)
            fsspec.filesystem("memory").pipe_file(
                f"/{out.name}/lists/l.txt", "\n".join(f"../{name}" for name in INNER_ORDER).encode()
            )
            return f"{address}/lists/l.txt"
        case "tar at an address":
            fsspec.filesystem("memory").pipe_file(f"/{out.name}.tar", packed("tar", folder).read_bytes())
            return f"memory://{out.name}.tar"


KINDS = (
    "url", "pattern", "list", "tar", "shards", "list of shards", "folder of shards", "bytes", "hugging face",
    "paths", "categories", "zip", "zip pattern", "memory", "list at an address", "tar at an address",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_packing_has_the_pictures_of_the_folder_in_its_order(kind, folder):
    expected = [np.asarray(Image.open(folder / name)) for name in INNER_ORDER]
    found = pixels_of(packed(kind, folder))
    assert len(found) == len(expected)
    for picture, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(picture, other)


def test_a_folder_is_read_as_predict_reads_it_also_by_its_url(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    expected = [str(path) for path in find_pictures([str(folder)])]
    rows = list(find_rows(str(folder)))
    assert [row.picture for row in rows] == expected
    assert list(find_rows(f"file://{folder}")) == rows
    with pytest.raises(InvalidInput, match=r"gone\.png"):
        PictureReader()(next(row for row in rows if "gone" in row.picture))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def http(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pictures_at_a_web_server(http, folder):
    expected = np.asarray(Image.open(folder / "a/1.png"))
    np.testing.assert_array_equal(pixels_of(f"{http}/a/1.png"), [expected])
    (folder / "list.txt").write_text(f"a/1.png\n{http}/none.png")
    first, second = find_rows(f"{http}/list.txt")
    np.testing.assert_array_equal(PictureReader()(first), expected)
    with pytest.raises(InvalidInput, match=r"none\.png"):
        PictureReader()(second)
    write_tar(folder / "p.tar")  # of which this server gives no parts
    with pytest.raises((InvalidInput, Unreachable)):
        pixels_of(f"{http}/p.tar")


def test_a_stamp_changes_with_a_pack_and_is_empty_where_nobody_tells(http, folder, monkeypatch):
    write_tar(folder / "p.tar")
    for source in (f"{http}/p.tar", str(folder / "p.tar")):
        stamps = []
        for second in (10, 20):  # of the same size
            os.utime(folder / "p.tar", (second, second))
            stamps.append(stamp_of(source))
            assert stamp_of(source) == stamps[-1] != ""
        assert stamps[0] != stamps[1]
    monkeypatch.setattr(Quiet, "send_header", quiet_header)
    assert stamp_of(f"{http}/p.tar") == ""


def quiet_header(self, name, value):
    """The headers of a server that tells of no version."""
    if name != "Last-Modified":
        SimpleHTTPRequestHandler.send_header(self, name, value)


def test_nobody_at_an_address_is_no_fault_of_a_picture(tmp_path):
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/a.png")
    (row,) = find_rows(str(tmp_path / "list.txt"))
    with pytest.raises(Unreachable, match="the same command goes on"):
        PictureReader()(row)


def test_names_that_are_no_utf8_or_have_newlines(tmp_path):
    for name in (b"\xff\xfe.png", b"two\nlines.png", "übung.png".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(CONTENTS["a.png"])
    rows = list(find_rows(str(tmp_path)))
    assert [row.title.rpartition("/")[2] for row in rows] == ["two\nlines.png", "übung.png", r"\xff\xfe.png"]
    assert len(pixels_of(tmp_path)) == 3


def cut(path):
    """A tar file without its end."""
    write_tar(path)
    path.write_bytes(path.read_bytes()[: 512 * 9])


def damaged(path):
    """A tar file with a header in its midst that is none."""
    write_tar(path)
    content = bytearray(path.read_bytes())
    content[512 * 4 : 512 * 5] = b"x" * 512
    path.write_bytes(content)


BAD = {
    "none.png": (lambda path: None, "got none"),
    "empty": (Path.mkdir, "got none"),
    "empty.txt": (Path.touch, "got none"),
    "none-{0..1}.tar": (lambda path: None, "none-0.tar`, got none"),
    "falling-{0..1}-{03..01}.png": (lambda path: None, r"numbers that rise.*got `{03\.\.01}`.*{01\.\.03}"),
    "x" * 300 + "{0..1}.jpg": (lambda path: None, "too long"),
    "itself.txt": (lambda path: path.write_text("itself.txt"), "names itself"),
    "cut.tar": (cut, "whole tar|unexpected end"),
    "damaged.tar": (damaged, "whole tar"),
    "no.tar": (lambda path: path.write_bytes(b"x" * 2000), "no.tar"),
    "small.tar.gz": (Path.touch, "not compressed.*Decompress"),
    "no.parquet": (lambda path: path.write_bytes(b"PAR1"), "no.parquet"),
    "other.parquet": (lambda path: pq.write_table(pa.table({"x": [1]}), path), "--column.*got x"),
    "two.parquet": (
        lambda path: pq.write_table(pa.table({"x": [b"1"], "y": [b"2"]}), path),
        "--column.*x, y",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_source_that_is_none_is_one_line(name, tmp_path):
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(InvalidInput, match=message) as caught:
        list(find_rows(str(tmp_path / name)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["nope://x", "s3://bucket/x", "memory://nothing/there", "zip://::/no.zip"]
)
def test_an_address_of_nothing_is_one_line(address):
    with pytest.raises(InvalidInput, match=r"Expected pictures at .*, got") as caught:
        list(find_rows(address))
    assert "\n" not in str(caught.value)


def test_pictures_beside_packed_files_are_ambiguous(folder):
    write_tar(folder / "all.tar")
    with pytest.raises(InvalidInput, match=r"got both.*\*\.tar"):
        list(find_rows(str(folder)))
    assert len(pixels_of(folder / "**/*.tar")) == len(NAMES)


def test_a_chosen_column_and_rows_without_a_picture(tmp_path):
    path = tmp_path / "p.parquet"
    pictures = [CONTENTS["a.png"], None]
    pq.write_table(pa.table({"left": pictures, "right": pictures[::-1], "path": ["x", None]}), path)
    assert [len(row.column) for row in find_rows(str(path), "right")] == [5, 5]
    read, rows = PictureReader(), list(find_rows(str(path), "left"))
    read.fetch(rows)
    assert read(rows[0]).size == (5, 6)
    with pytest.raises(InvalidInput, match=r"p\.parquet#1"):
        read(rows[1])
    texts = list(find_rows(str(path), "path"))
    assert [row.picture for row in texts] == [str(tmp_path / "x"), f"{path}#1"]
    with pytest.raises(InvalidInput, match="`none`"):
        list(find_rows(str(path), "none"))


def test_rows_are_found_in_any_order(tmp_path):
    values = [CONTENTS[NAMES[index % 6]] for index in range(500)]
    pq.write_table(pa.table({"image": values}), tmp_path / "p.parquet", row_group_size=150)
    rows, read = list(find_rows(str(tmp_path / "p.parquet"))), PictureReader()
    for chosen in (rows[140:160], rows[400:], rows[3:9], rows[7:8]):
        read.fetch(chosen)
        for row in chosen:
            expected = Image.open(io.BytesIO(values[row.start])).convert("RGB")
            np.testing.assert_array_equal(read(row), expected)
