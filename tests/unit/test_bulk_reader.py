"""What ends a job, as it passes, and what becomes the error of one picture, as it stays."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from common import ROOT
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from ebjr_det.bulk.manifest import Row
from ebjr_det.bulk.reader import PictureReader
from ebjr_det.bulk.sources import find_rows
from ebjr_det.core.errors import InvalidInput, Unreachable
from ebjr_det.io.loader import batches_from
from ebjr_det.io.passing import is_passing
from ebjr_det.io.pictures import open_picture

PASSES = "the same command goes on"


@pytest.fixture
def folder(tmp_path):
    """Four pictures, and a list of them."""
    (tmp_path / "pictures").mkdir()
    for index in range(4):
        Image.new("RGB", (9, 8), (index, 0, 0)).save(tmp_path / f"pictures/{index}.png")
    (tmp_path / "list.txt").write_text("".join(f"pictures/{index}.png\n" for index in range(4)))
    return tmp_path / "pictures"


@contextmanager
def limited(kind, least):
    """Within, this process has no more of a resource than it has, or so much."""
    _, most = limits = resource.getrlimit(kind)
    resource.setrlimit(kind, (least, most))
    try:
        yield
    finally:
        resource.setrlimit(kind, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_machine_without_open_files_is_no_fault_of_a_picture(folder):
    read, row = PictureReader(), Row(str(folder / "0.png"))
    read(row)
    with limited(resource.RLIMIT_NOFILE, 3), pytest.raises(Unreachable, match=r"0\.png.*Too many open"):
        read(row)
    read(row)


LACKING = """
import resource, sys
from pathlib import Path
from ebjr_det.io.pictures import open_picture
open_picture(Path(sys.argv[1]))
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**24,) * 2)
try:
    open_picture(Path(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_machine_without_memory_is_no_fault_of_a_picture(folder):
    """In a process of its own: this one may have freed memory left, which no limit takes away."""
    Image.new("1", (8000, 8000)).save(folder / "large.png")
    words = [sys.executable, "-c", LACKING, str(folder / "0.png"), str(folder / "large.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("Unreachable ")
    assert "large.png" in printed


def test_memory_is_believed_to_lack_where_it_does():
    assert not is_passing(MemoryError())  # which a damaged JPEG 2000 raises


class Unfilled:
    """Pictures of a set that may be left out, on a machine that has no files to open."""

    image_ids, skip_unreadable = ("a", "b"), True

    def load(self, index):
        with limited(resource.RLIMIT_NOFILE, 3):
            return open_picture(Path(__file__))

    def target(self, index):
        return index

    def __len__(self):
        return 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_set_leaves_nothing_out_for_want_of_files(workers):
    with pytest.raises(Unreachable, match="Too many open files"):
        list(batches_from(0, Unfilled(), [], 2, workers))


def read_all(rows, read=None):
    """What becomes of the pictures of a shard: sizes and errors of pictures."""
    read = read or PictureReader()
    read.fetch(rows)

    def result(row):
        try:
            return read(row).size
        except InvalidInput as error:
            return str(error)

    return [result(row) for row in rows]


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


LOST = {
    "one": (lambda folder: (folder / "1.png").unlink(), None),
    "all but one": (lambda folder: [(folder / f"{i}.png").unlink() for i in range(3)], None),
    "folder": (shutil.rmtree, "anything in its folder"),
    "mount": (emptied, "anything in its folder"),
    "all": (lambda folder: [path.rename(folder / path.stem) for path in folder.glob("*.png")], "none of a"),
}


@pytest.mark.parametrize("at", ["folder", "list"])
@pytest.mark.parametrize("name", LOST)
def test_a_lost_picture_is_an_error_and_a_lost_folder_the_end(name, at, folder):
    rows = list(find_rows(str(folder if at == "folder" else folder.parent / "list.txt")))
    lose, message = LOST[name]
    lose(folder)
    if message is None:
        assert {type(result) for result in read_all(rows)} == {tuple, str}
    else:
        with pytest.raises(Unreachable, match=f"{message}.*{PASSES}"):
            read_all(rows)


class Guarded(MemoryFileSystem):
    """An object store whose tokens have expired, in the words of s3fs."""

    protocol = "guarded"

    def cat_file(self, path, start=None, end=None, **words):
        raise PermissionError("The provided token has expired.")


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("memory://there/none.png", InvalidInput, "none.png"),
        ("memory://gone/0.png", Unreachable, "anything in its folder"),
        ("guarded://there/0.png", Unreachable, f"token has expired. {PASSES}".replace(". ", ".*")),
        ("zip://0.png::{folder}/none.zip", Unreachable, "anything in its folder"),
    ],
)
def test_an_address_that_is_away_is_told_from_a_picture_that_is(address, error, message, folder):
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    fsspec.filesystem("memory").pipe_file("/there/0.png", b"")
    with pytest.raises(error, match=message):
        PictureReader()(Row(address.format(folder=folder)))


@pytest.fixture
def server():
    """Answers each address by the status that stands in it, and 200 with less than it promises."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            status = int(self.path.split("/")[1])
            self.send_response(status)
            self.send_header("Content-Length", "9999" if status == 200 else "4")
            self.end_headers()
            self.wfile.write(b"PAR1")

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize(
    ("status", "ends"), [(403, False), (404, False), (200, True), (401, True), (429, True), (503, True)]
)
def test_a_server_that_refuses_one_picture_and_one_that_refuses_all(status, ends, server, folder):
    refused = [Row(f"{server}/{status}/{index}.png") for index in range(4)]
    mixed = [*refused[:3], Row(str(folder / "0.png"))]
    if ends:
        with pytest.raises(Unreachable, match=PASSES):
            read_all(mixed)
    else:
        assert [type(result) for result in read_all(mixed)] == [str, str, str, tuple]
        with pytest.raises(Unreachable, match=f"none of a shard's 4.*{status}.*{PASSES}"):
            read_all(refused)


def cut_page(path):
    content = bytearray(path.read_bytes())
    content[4:40] = bytes(36)
    path.write_bytes(content)


def fewer_rows(path):
    pq.write_table(pq.read_table(path).slice(0, 2), path)


PACKS = {
    "gone": (Path.unlink, Unreachable, PASSES),
    "damaged": (cut_page, InvalidInput, "whole parquet file"),
    "no parquet": (lambda path: path.write_bytes(b"x" * 99), InvalidInput, "whole parquet file"),
    "fewer rows": (fewer_rows, InvalidInput, "a row 2 in"),
}


@pytest.mark.parametrize("name", PACKS)
def test_a_parquet_file_that_changes_is_one_line_with_its_name(name, folder):
    buffer = BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(buffer, "png")
    path = folder / "p.parquet"
    pq.write_table(pa.table({"image": [buffer.getvalue()] * 4}), path)
    rows, (change, error, message) = list(find_rows(str(path))), PACKS[name]
    change(path)
    with pytest.raises(error, match=message) as caught:
        PictureReader().fetch(rows)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_parquet_file_at_a_server_that_fails_is_one_line(status, server):
    with pytest.raises(Unreachable, match=rf"/{status}/p\.parquet.*{PASSES}"):
        PictureReader().fetch([Row("p#0", f"{server}/{status}/p.parquet", 0, 9, "image")])
