"""Files fetched from a real server on this machine: whole, resumed, refused."""

import hashlib
import io
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.io.checkpoints.finding import FOLDER_VARIABLE
from ebjr_det.io.download import DATASETS, Archive, download, fetch, manifest

CONTENT = bytes(range(256)) * 5000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` breaks a connection after so many bytes; `ranges` says whether it can resume."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.ranges, self.asked = {"/w.pth": CONTENT}, None, True, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if self.path not in server.files:
            return self.send_error(404)
        content, start = server.files[self.path], 0
        if wanted and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
            if start >= len(content):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : start + server.cut if server.cut else None])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def test_a_file_is_fetched_once(server, tmp_path):
    path = tmp_path / "deep" / "w.pth"
    for _ in range(2):
        fetch(server.url("/w.pth"), path, "sha256", SHA)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_goes_on_where_it_broke(server, tmp_path, ranges):
    server.cut, server.ranges = 500_000, ranges
    with pytest.raises(InvalidInput, match="bytes are kept; run it again"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", "sha256", SHA)
    assert not (tmp_path / "w.pth").exists()
    kept = (tmp_path / "w.pth.part").stat().st_size
    assert kept == 500_000
    server.cut = None
    fetch(server.url("/w.pth"), tmp_path / "w.pth", "sha256", SHA)
    assert (tmp_path / "w.pth").read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept}-"]


def test_a_transfer_cut_off_just_before_its_name_is_taken_as_it_is(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    fetch(server.url("/w.pth"), tmp_path / "w.pth", "sha256", SHA[:8])
    assert (tmp_path / "w.pth").read_bytes() == CONTENT


def test_another_content_is_refused_and_an_old_file_stays(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"old")
    with pytest.raises(InvalidInput, match=f"sha256 {'0' * 64}.*got {SHA}"):
        fetch(server.url("/w.pth"), tmp_path / "w.pth", "sha256", "0" * 64)
    assert (tmp_path / "w.pth").read_bytes() == b"old"
    assert not (tmp_path / "w.pth.part").exists()


def test_no_server_and_no_file_are_one_line(server, tmp_path):
    for url in (server.url("/nothing"), "http://127.0.0.1:9/w.pth"):
        with pytest.raises(InvalidInput, match=url):
            fetch(url, tmp_path / "w.pth", "sha256", SHA)


def test_weights_go_where_they_are_looked_for(server, tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    name = "tf_efficientdet_d0"
    entry = manifest()[name]
    server.files["/d0.pth"] = CONTENT
    changed = type(entry)(**entry.__dict__ | {"url": server.url("/d0.pth"), "sha256": SHA[:8]})
    monkeypatch.setattr("ebjr_det.io.download.manifest", lambda: {name: changed})
    assert download(name) == [tmp_path / "efficientdet" / "tf_efficientdet_d0_34-f153e0cf.pth"]


def test_unknown_names_and_weights_without_an_address_are_refused():
    with pytest.raises(ConfigError, match="Did you mean `coco-val2017`"):
        download("coco-val2071")
    with pytest.raises(ConfigError, match="vbdi/ebjr"):
        download("ebjr-cifar10-densenet-bc-52-6")


def test_a_data_set_is_unpacked_below_its_folder_and_not_fetched_again(server, tmp_path, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("val/a.jpg", "train/b.jpg", "val/../../../evil.jpg"):
            archive.writestr(name, name)
    server.files["/set.zip"] = buffer.getvalue()
    md5 = hashlib.md5(buffer.getvalue()).hexdigest()
    monkeypatch.setitem(DATASETS, "tiny", ("tiny", (Archive(server.url("/set.zip"), md5, "val/"),)))
    for _ in range(2):
        assert download("tiny", tmp_path / "data") == [tmp_path / "data" / "tiny"]
    assert len(server.asked) == 1
    assert (tmp_path / "data" / "tiny" / "val" / "a.jpg").read_text() == "val/a.jpg"
    found = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg")]
    assert all(path.startswith("data/tiny/") for path in found)
    assert not any("train" in path for path in found)
