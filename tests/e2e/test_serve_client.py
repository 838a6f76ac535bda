"""`Client`, and `predict` at a server: the answers of `load`, what is tried again and what is not."""

import socket
import threading

import numpy as np
import pytest
from PIL import Image

import ebjr_det
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.serving import client as client_module

ONE = ("--set", "run.batch_size=1")


@pytest.fixture(scope="module")
def address(routed_digits, served_at):
    with served_at(routed_digits) as address:
        yield address


@pytest.fixture
def pauses(monkeypatch):
    """Seconds that a client would have slept."""
    slept = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    return slept


def test_a_client_has_the_bits_of_load(address, routed_digits, digit_pictures):
    client, pair = ebjr_det.Client(address), ebjr_det.load(routed_digits)
    for path in sorted(digit_pictures.iterdir()):
        expected, answer = pair([path]), client.infer([path])
        assert answer["logits"].tobytes() == expected.predictions[0].tobytes()
        assert answer["deferral_score"].tobytes() == expected.decision.scores.tobytes()
        assert tuple(answer["answered_by"]) == expected.answered_by
    content = path.read_bytes()
    assert client.infer([content, content], force="teacher")["answered_by"] == ["teacher"] * 2
    client.close()
    assert client.infer([content])["label"].shape == (1,)
    with pytest.raises(InvalidInput, match="max_latency_ms"):
        client.infer([content], max_latency_ms=-1)
    with pytest.raises(InvalidInput, match="1 to 64"):
        client.infer([])


@pytest.mark.parametrize("rule", [(), ("--threshold", "-inf"), ("--threshold", "0.1"), ("--rate", "0.5")])
def test_predict_at_a_server_writes_what_predict_writes(
    address, routed_digits, digit_pictures, tmp_path, answer, rule
):
    at_server = answer("predict", address, digit_pictures, "--out", tmp_path / "server", *rule)
    here = answer("predict", routed_digits, digit_pictures, "--out", tmp_path / "here", *rule, *ONE)
    names = ("images", "deferred", "unreadable", "threshold", "score")
    assert [at_server[name] for name in names] == [here[name] for name in names]
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*"))
    assert len(files) == 14
    for file in files:
        assert (tmp_path / "server" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


def test_boxes_come_back_as_detections(exported_scenes, scene_pictures, served_at, answer, tmp_path):
    with served_at(exported_scenes) as address:
        at_server = answer("predict", address, scene_pictures, "--out", tmp_path / "server")
    here = answer("predict", exported_scenes, scene_pictures, "--out", tmp_path / "here", *ONE)
    assert at_server["deferred"] == here["deferred"]
    for name in ("predictions.json", "images.json"):
        assert (tmp_path / "server" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_picture_that_cannot_be_read_is_left_out(address, tmp_path, answer):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    result = answer("predict", address, tmp_path / "a.png", tmp_path / "b.png", "--out", tmp_path / "out")
    assert (result["images"], result["unreadable"]) == (1, 1)


def replies(*answers: bytes):
    """The address of a server that gives one raw answer a connection, and what it was asked."""
    listener, requests = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for answer in answers:
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(65536))
                connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", requests


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_a_cut_connection_and_a_full_server_are_tried_again_and_a_refusal_is_not(pauses):
    address, requests = replies(b"", http(503, b"{}", "Retry-After: 3"), http(200, b'{"name": "pair"}'))
    assert ebjr_det.Client(address).describe() == {"name": "pair"}
    assert (len(requests), pauses) == (3, [0.1, 3.0])
    for status in (400, 413, 500, 504):
        address, requests = replies(http(status, b'{"error": "Expected a line."}'))
        with pytest.raises(InvalidInput, match="Expected a line"):
            ebjr_det.Client(address).describe()
        assert len(requests) == 1
    address, requests = replies(*[http(503, b"busy")] * 4)
    with pytest.raises(InvalidInput, match="status 503"):
        ebjr_det.Client(address).describe()
    assert len(requests) == 4


def test_no_server_another_server_and_settings_are_one_line(pauses, refused, digit_pictures, tmp_path):
    with pytest.raises(ConfigError, match="address of a server"):
        ebjr_det.Client("ftp://127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address, out = f"http://127.0.0.1:{port}", ("--out", tmp_path / "out")
    assert "Expected a server at" in refused("predict", address, digit_pictures, *out)
    assert "the server's own settings" in refused("predict", address, digit_pictures, *out, *ONE)
    both = ("--threshold", 1, "--rate", 0.5)
    assert "got both" in refused("predict", address, digit_pictures, *out, *both)
    other, _ = replies(http(200, b"{}"))
    assert "got another one" in refused("predict", other, digit_pictures, *out)
    assert not (tmp_path / "out").exists()
