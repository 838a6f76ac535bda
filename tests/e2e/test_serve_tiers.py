"""A teacher on another server: the pair's bits, what it may be, what its faults cost; the drift alarm."""

import asyncio
import base64
import io
import json
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from common import check_served_bits
from PIL import Image
from starlette.testclient import TestClient

import ebjr_det
from ebjr_det.api.predict_at import predict_at
from ebjr_det.api.serve import load_served
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.serving.client import Refused
from ebjr_det.serving.fault import Unavailable
from ebjr_det.serving.remote import RemoteTeacher
from ebjr_det.serving.teacher import Deferred

TO_TEACHER = {"threshold": -1e300}
LONG = {"patience_ms": 10_000}  # these ask for bits, on a machine that may be busy
REASONS = {"busy", "timeout", "breaker", "died"}


@contextmanager
def tiers(served_at, folder, student_folder=None, **settings):
    """The addresses of a teacher's server and of a student's that asks it."""
    with (
        served_at(folder, tier="teacher") as teacher,
        served_at(student_folder or folder, teacher=teacher, **settings) as student,
    ):
        yield teacher, student


def pictures_answered(address):
    """Who answered and why not the teacher -> pictures, by the server's metrics."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=60) as response:
        lines = response.read().decode().splitlines()
    counts = {}
    for line in lines:
        if line.startswith("ebjr_pictures_total{"):
            side, reason = (part.split('"')[1] for part in line.split(",")[:2])
            counts[side, reason] = int(float(line.split()[-1]))
    return counts


def test_two_tiers_have_the_bits_of_load(routed_digits, digit_pictures, served_at, refused, tmp_path):
    pair = ebjr_det.load(routed_digits)
    with tiers(served_at, routed_digits, **LONG) as (teacher, student):
        client, alone = ebjr_det.Client(student), ebjr_det.Client(teacher, name="pair-teacher")
        for path in sorted(digit_pictures.iterdir()):
            for threshold in (pair.threshold, -1e300):
                expected, answer = pair([path], threshold), client.infer([path], threshold=threshold)
                check_served_bits(answer, expected)
            assert set(alone.infer([path])) == {"logits", "probabilities", "label", "name"}
            assert alone.infer([path])["logits"].tobytes() == answer["logits"].tobytes()
        with pytest.raises(InvalidInput, match="served alone"):
            alone.infer([path], threshold=0.5)
        with pytest.raises(InvalidInput, match="Expected a model among pair-teacher"):
            ebjr_det.Client(teacher).infer([path])
        assert "a model among pair-teacher" in refused("predict", teacher, path, "--out", tmp_path / "out")


def test_two_tiers_of_detectors_and_pixels_have_the_bits_of_one_process(
    exported_scenes, scene_pictures, served_at, tmp_path, answer
):
    with tiers(served_at, exported_scenes, **LONG) as (_, student):
        at_server = answer("predict", student, scene_pictures, "--out", tmp_path / "server")
        path = sorted(scene_pictures.iterdir())[0]
        pixels = np.asarray(Image.open(path).convert("RGB"))[None]
        tensor = {"name": "image", "shape": pixels.shape, "datatype": "UINT8", "data": pixels.tolist()}
        body = json.dumps({"inputs": [tensor], "parameters": {"force": "teacher"}}).encode()
        client = ebjr_det.Client(student)
        got, expected = client.send(body, None), client.infer([path], force="teacher")
        assert all(np.array_equal(got[name], expected[name]) for name in ("boxes", "scores", "labels"))
    here = answer(
        "predict", exported_scenes, scene_pictures, "--out", tmp_path / "here", "--set", "run.batch_size=1"
    )
    assert 0 < at_server["deferred"] == here["deferred"]
    for name in ("predictions.json", "images.json"):
        assert (tmp_path / "server" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_each_tier_needs_its_own_files_alone(routed_digits, digit_pictures, served_at, tmp_path):
    for side in ("student", "teacher"):
        folder = tmp_path / side
        folder.mkdir()
        for path in routed_digits.iterdir():
            if path.name in (f"{side}.onnx", "pair.json") or (side == "student" and "router" in path.name):
                (folder / path.name).write_bytes(path.read_bytes())
    with tiers(served_at, tmp_path / "teacher", tmp_path / "student", **LONG) as (_, student):
        path = sorted(digit_pictures.iterdir())[0]
        assert ebjr_det.Client(student).infer([path], force="teacher")["answered_by"] == ["teacher"]


def test_a_run_folder_serves_its_teacher_alone(routed_digits, digit_pictures, served_at):
    run = routed_digits.parent / "run"
    pair, path = ebjr_det.load(run), sorted(digit_pictures.iterdir())[0]
    with tiers(served_at, run, **LONG) as (_, student):
        got = ebjr_det.Client(student).infer([path], force="teacher")["logits"]
    assert got.tobytes() == pair([path], -1e300).predictions[0].tobytes()


def test_a_teacher_of_ours_works_for_nobody_who_has_gone(routed_digits, served_at, application_at):
    app = ebjr_det.build_serving(routed_digits, ebjr_det.ServeSettings(access_log=False, tier="teacher"))
    desk, picture = app.state.desk, Image.new("RGB", (8, 8))
    begun, gate, joint = threading.Event(), threading.Event(), desk.bench.served.live.joint
    student, asked = joint.student, []

    class Gate:
        name, invariant, preprocess = student.name, False, student.preprocess

        def __call__(self, inputs):
            asked.append(len(inputs))
            begun.set()
            assert gate.wait(60)
            return student(inputs)

    joint.student = Gate()
    with application_at(app) as teacher:
        served = load_served(routed_digits, None, None, ())
        link = RemoteTeacher(teacher, "pair-teacher", served)

        def request(left):
            return asyncio.create_task(link.ask(Deferred([np.asarray(picture)], [picture], [0.0], left)))

        async def ask():
            first, reasons = request(60.0), []
            await asyncio.to_thread(begun.wait, 60)
            for late in [request(0.5) for _ in range(3)]:
                with pytest.raises(Unavailable) as unavailable:
                    await late
                reasons.append(unavailable.value.reason)
            gate.set()
            await first
            return reasons

        assert set(asyncio.run(ask())) <= {"timeout", "busy"}
        with pytest.raises(InvalidInput, match="So says the teacher"):
            asyncio.run(link.ask(Deferred([b"no picture"], [None], [0.0])))
        link.close()
    assert sum(asked) == 1


def test_a_teacher_that_takes_smaller_pictures_costs_their_quality_alone(
    routed_digits, digit_pictures, served_at
):
    content = sorted(digit_pictures.iterdir())[0].read_bytes()
    with (
        served_at(routed_digits, tier="teacher", pixels=1e-5) as teacher,
        served_at(routed_digits, teacher=teacher, **LONG) as student,
    ):
        client = ebjr_det.Client(student)
        for _ in range(4):  # of which three faults would open the breaker
            answer = client.infer([content], **TO_TEACHER)
            assert (answer["answered_by"], answer["degraded"]) == (["student"], ["refused"])
        with pytest.raises(Refused) as refused:
            client.infer([content], force="teacher")
        assert refused.value.status == 400


def test_an_answer_of_another_teacher_over_an_open_connection_is_found_out(routed_digits, application_at):
    app = ebjr_det.build_serving(routed_digits, ebjr_det.ServeSettings(access_log=False, tier="teacher"))
    picture, bench = Image.new("RGB", (8, 8)), app.state.desk.bench
    deferred = Deferred([np.asarray(picture)], [picture], [0.0])
    with application_at(app) as teacher:
        link = RemoteTeacher(teacher, "pair-teacher", load_served(routed_digits, None, None, ()))
        assert len(asyncio.run(link.ask(deferred)).results) == 1
        bench.served = replace(bench.served, digests=("", "0" * 64))
        with pytest.raises(Unavailable) as unavailable:
            asyncio.run(link.ask(deferred))
        link.close()
    assert unavailable.value.reason == "died"
    assert "another" in str(unavailable.value.__cause__)


class OpenServer:
    """A digits teacher behind the open protocol, as an ASGI application that knows nothing of this package.

    Written from the protocol's description: metadata, JSON with base64, and the binary extension if `binary`.
    """

    status = 200

    def __init__(self, folder, binary, **facts):
        self.session = onnxruntime.InferenceSession(folder / "teacher.onnx")
        around = json.loads((folder / "pair.json").read_text())["teacher"]["around"]["preprocessing"]
        self.mean, self.std = (np.array(around[name], np.float32) for name in ("mean", "std"))
        self.binary, self.forms, self.facts = binary, set(), facts

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        answer, extra = self.answer(scope["path"], body, headers.get("inference-header-content-length"))
        fields = [(name.encode(), value.encode()) for name, value in extra.items()]
        status = self.status if scope["path"].endswith("/infer") else 200
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, path, body, length):
        if path == "/v2":
            return json.dumps(
                {"name": "open", "extensions": ["binary_tensor_data"] * self.binary}
            ).encode(), {}
        if not path.endswith("/infer"):
            inputs = [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
            outputs = [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]
            facts = {"name": "m", "platform": "x", "inputs": inputs, "outputs": outputs}
            return json.dumps(facts | self.facts).encode(), {}
        request = json.loads(body[: int(length or len(body))])
        (tensor,), (output,) = request["inputs"], request["outputs"]
        assert (tensor["datatype"], output["name"]) == ("BYTES", "logits")
        contents, raw = [base64.b64decode(text) for text in tensor.get("data", [])], body[int(length or 0) :]
        while not tensor.get("data") and raw:
            (size,) = struct.unpack("<I", raw[:4])
            contents, raw = [*contents, raw[4 : 4 + size]], raw[4 + size :]
        assert tensor["shape"] == [len(contents)]
        opened = [Image.open(io.BytesIO(item)).convert("RGB").resize((8, 8)) for item in contents]
        pictures = [np.asarray(picture, np.float32) for picture in opened]
        batch = ((np.stack(pictures) / 255 - self.mean) / self.std).transpose(0, 3, 1, 2)
        (logits,) = self.session.run(None, {"images": batch})
        self.forms.add((length is not None, len(contents)))
        result = {"name": "logits", "datatype": "FP32", "shape": list(logits.shape)}
        if not output.get("parameters", {}).get("binary_data"):
            return json.dumps({"outputs": [result | {"data": logits.ravel().tolist()}]}).encode(), {}
        result["parameters"] = {"binary_data_size": logits.nbytes}
        head = json.dumps({"model_name": "m", "outputs": [result]}).encode()
        return head + logits.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize("binary", [True, False])
def test_a_teacher_may_be_any_server_of_the_protocol(
    routed_digits, digit_pictures, served_at, application_at, binary
):
    server, paths = OpenServer(routed_digits, binary), sorted(digit_pictures.iterdir())[:3]
    expected = np.stack(ebjr_det.load(routed_digits)(paths, -1e300).predictions)
    with (
        application_at(server) as teacher,
        served_at(routed_digits, teacher=f"{teacher}/v2/models/m", **LONG) as student,
    ):
        answer = ebjr_det.Client(student).infer(paths, force="teacher")
    assert answer["answered_by"] == ["teacher"] * 3
    assert np.abs(answer["logits"] - expected).max() < 1e-4
    assert server.forms == {(binary, 1), (binary, 3)}


BOXES = {
    "boxes": ("FP32", [2, 4], [1.5, 2, 30, 40, 5, 5, 9, 9]),
    "scores": ("FP32", [2], [0.75, 0.5]),
    "labels": ("INT32", [2], [3, 0]),
    "counts": ("INT64", [1], [2]),
}


class BoxServer(OpenServer):
    """A detector of the open protocol that answers the same boxes to every picture, some of them changed."""

    def __init__(self, changes):
        self.changes, self.binary = changes, False

    def answer(self, path, body, length):
        if path == "/v2":
            return b'{"name": "x"}', {}
        if not path.endswith("/infer"):
            facts = {"inputs": [{"name": "image"}], "outputs": [{"name": name} for name in BOXES]}
            return json.dumps(facts).encode(), {}
        if isinstance(self.changes, bytes):
            return self.changes, {}
        outputs = [
            {"name": name, "datatype": kind, "shape": shape, "data": data}
            for name, (kind, shape, data) in ({**BOXES, **self.changes}).items()
            if data
        ]
        return json.dumps({"outputs": outputs}).encode(), {}


NONSENSE = [
    {"labels": ("INT32", [2], [3, 99])},
    {"labels": ("INT32", [2], [3, -1])},
    {"labels": ("INT64", [2], [3, 1e400])},
    {"counts": ("INT64", [1], [3])},
    {"counts": ("INT64", [2], [1, 1])},
    {"scores": ("FP32", [2], [0.5, None])},
    {"scores": ("FP32", [3], [0.5, 1])},
    {"boxes": ("FP32", [2, 4], [])},
    {"boxes": ("FP8", [2, 4], [1] * 8)},
    *(b"", b"[]", b"<html>", b'{"outputs": 3}', b"[" * 100_000),
]


def test_boxes_of_any_server_are_taken_and_nonsense_is_its_fault(
    exported_scenes, scene_pictures, served_at, application_at
):
    content, server = sorted(scene_pictures.iterdir())[0].read_bytes(), BoxServer({})
    with application_at(server) as teacher:
        with served_at(exported_scenes, teacher=teacher, **LONG) as student:
            answer = ebjr_det.Client(student).infer([content], **TO_TEACHER)
            server.changes = NONSENSE[0]
            fault = ebjr_det.Client(student).infer([content], **TO_TEACHER)
        assert answer["boxes"].tolist() == [[1.5, 2, 30, 40], [5, 5, 9, 9]]
        assert answer["labels"].tolist() == [3, 0]
        assert (fault["answered_by"], fault["degraded"]) == (["student"], ["died"])
        link = RemoteTeacher(teacher, "pair-teacher", load_served(exported_scenes, None, None, ()))
        for server.changes in NONSENSE:
            with pytest.raises(Unavailable) as unavailable:
                asyncio.run(link.ask(Deferred([content], [None], [0.0])))
            assert unavailable.value.reason == "died"
        for server.status, reason in {
            400: "died",
            404: "died",
            500: "died",
            503: "busy",
            504: "timeout",
        }.items():
            with pytest.raises(Unavailable) as unavailable:
                asyncio.run(link.ask(Deferred([content], [None], [0.0])))
            assert unavailable.value.reason == reason
        for server.status in (413, 415):  # of the request, not of the machine
            with pytest.raises(InvalidInput, match="So says the teacher"):
                asyncio.run(link.ask(Deferred([content], [None], [0.0])))
        link.close()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"parameters": {"classes": ["a", "b"]}}, "another `classes`"),
        ({"parameters": {"teacher_sha256": "0" * 64}}, "another `teacher_sha256`"),
        ({"outputs": [{"name": "boxes"}]}, "one without `logits`"),
        ({"inputs": [{"name": "text"}]}, "one without `image`"),
        ({"outputs": 7}, "metadata of no such model"),
    ],
)
def test_another_pairs_teacher_is_one_line(routed_digits, application_at, refused, facts, words):
    with application_at(OpenServer(routed_digits, True, **facts)) as teacher:
        assert words in refused("serve", routed_digits, "--teacher", teacher, "--port", 0)


NO_ADDRESSES = (
    "127.0.0.1:8001", "http://127.0.0.1: 8001", "http://a b:8001", "http://a..b:8001", "http://a:8001/\t",
    "http://a:8001/\u00e4", "http://me:word@a:8001", "http://a:8001?x=1", "http://a:8001#x",
)  # fmt: skip


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory):
    """The port of a server that takes connections with TLS and a certificate of its own, and no other."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl for a certificate")
    files = {name: tmp_path_factory.mktemp("tls") / name for name in ("key", "cert")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-keyout", files["key"], "-out", files["cert"]]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files["cert"], files["key"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            while True:
                try:
                    connection = listener.accept()[0]
                except OSError:
                    return
                with connection, suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_address_of_tls_and_of_none_are_told_apart_at_the_start(
    routed_digits, application_at, over_tls, refused, scheme
):
    address, words = f"http://127.0.0.1:{over_tls}", "a server of http at .*, got one of https"
    if scheme == "https":
        address, words = address.replace("http:", "https:"), "CERTIFICATE_VERIFY_FAILED"
    assert re.search(words, refused("serve", routed_digits, "--teacher", address, "--port", 0))
    with application_at(OpenServer(routed_digits, True)) as teacher:
        teacher = teacher.replace("http:", "https:")
        assert "a server of https" in refused("serve", routed_digits, "--teacher", teacher, "--port", 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tier", "student"], "a tier among"),
        (["--tier", "teacher", "--teacher", "http://127.0.0.1:1"], "got both"),
        (["--tier", "teacher", "--rate", "0.3"], "no threshold and no rate"),
        (["--tier", "teacher", "--policy", "share"], "to the server of the student"),
        (["--tier", "teacher", "--shadow", "0.1"], "to the server of the student"),
        (["--tier", "teacher", "--patience-ms", "9"], "beside --teacher or --ray"),
        (["--patience-ms", "9"], "beside --teacher or --ray"),
        (["--teacher", "http://127.0.0.1:1", "--patience-ms", "10001"], "at most 10000, got 10001"),
        (["--teacher", "http://127.0.0.1:1", "--patience-ms", "nan"], "at most 10000, got nan"),
        *((["--teacher", address], "the address of a server") for address in NO_ADDRESSES),
        (["--teacher", "http://127.0.0.1:99999"], "the address of a server"),
    ],
)
def test_tiers_that_make_no_sense_are_one_line(routed_digits, refused, options, words):
    assert words in refused("serve", routed_digits, "--port", 0, *options)


class Wire:
    """A way to a server that can be cut: `pass`, `hold` (nothing comes back), `refuse` (nobody listens)."""

    def __init__(self, address):
        self.target = address.removeprefix("http://").split(":")
        self.released, self.lines, self.listener = threading.Event(), [], None
        self.port = 0
        self.listen()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def listen(self):
        self.released.set()
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((self.target[0], int(self.target[1])))
            self.lines += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=ends, daemon=True).start()

    def carry(self, source, target):
        try:
            while data := source.recv(2**16):
                self.released.wait(60)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()

    def hold(self):
        self.released.clear()

    def refuse(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.lines:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                end.close()

    def restore(self):
        if self.released.is_set():
            self.listen()
        self.released.set()


def ask_many(address, content, clients, requests, look=lambda answers: None):
    """What so many clients at a time get for so many requests each; a failed request is an error."""
    answers, faults = [], []

    def ask():
        client = ebjr_det.Client(address, tries=1)
        for _ in range(requests):
            try:
                answer = client.infer([content], **TO_TEACHER)
            except Exception as error:
                faults.append(error)
                return
            answers.append((answer["answered_by"][0], answer["degraded"][0]))
            look(answers)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    return answers


def count(answers):
    return {kind: answers.count(kind) for kind in set(answers)}


def add(first, second):
    return {kind: first.get(kind, 0) + second.get(kind, 0) for kind in {*first, *second}}


@pytest.mark.parametrize("fault", ["hold", "refuse"])
def test_a_teacher_that_fails_under_load_costs_no_answer(routed_digits, digit_pictures, served_at, fault):
    content = sorted(digit_pictures.iterdir())[0].read_bytes()
    with served_at(routed_digits, tier="teacher") as teacher:
        wire = Wire(teacher)
        with served_at(routed_digits, teacher=wire.address) as student:
            client = ebjr_det.Client(student, tries=1)
            seen = count(ask_many(student, content, 4, 10))
            getattr(wire, fault)()
            seen = add(seen, count(ask_many(student, content, 8, 15)))
            with pytest.raises(Refused) as refused:
                client.infer([content], force="teacher")
            assert refused.value.status == 503
            assert "127.0.0.1" not in str(refused.value)
            assert pictures_answered(student) == seen
            assert {kind for kind in seen if kind[0] == "student"} <= {("student", word) for word in REASONS}
            assert seen["student", "breaker"] > 60
            wire.restore()
            while client.infer([content], **TO_TEACHER)["answered_by"] != ["teacher"]:
                pass
            assert client.infer([content], force="teacher")["degraded"] == [""]


def test_a_teacher_that_is_not_there_yet_is_asked_when_it_comes(
    routed_digits, digit_pictures, served_at, application_at, capsys, tmp_path
):
    content = sorted(digit_pictures.iterdir())[0].read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with served_at(routed_digits, teacher=f"http://127.0.0.1:{port}") as student:
        assert "no teacher yet" in capsys.readouterr().err
        client = ebjr_det.Client(student)
        answer = client.infer([content], **TO_TEACHER)
        assert (answer["answered_by"], answer["degraded"]) == (["student"], ["breaker"])
        predict_at(student, [str(digit_pictures)], tmp_path / "out", threshold=-1e300)
        assert "12 deferred pictures have the student's answer (breaker 12)" in capsys.readouterr().err
        wrong = OpenServer(routed_digits, True, parameters={"classes": ["a", "b"]})
        with application_at(wrong, port):
            while "another `classes`" not in capsys.readouterr().err:
                assert client.infer([content], **TO_TEACHER)["degraded"] == ["breaker"]
        with application_at(OpenServer(routed_digits, True), port):
            while client.infer([content], **TO_TEACHER)["answered_by"] != ["teacher"]:
                pass
        assert "the teacher answers again" in capsys.readouterr().err
        assert not wrong.forms


def test_an_address_without_a_model_is_one_line(routed_digits, served_at, refused):
    with served_at(routed_digits, tier="teacher") as teacher:
        message = refused("serve", routed_digits, "--teacher", f"{teacher}/v2/models/x", "--port", 0)
    assert "as model `x`" in message
    with pytest.raises(ConfigError, match="the address of a server"):
        ebjr_det.build_serving(routed_digits, ebjr_det.ServeSettings(teacher="ftp://x"))


def test_a_law_says_that_it_voids_what_a_calibration_promised(routed_digits, capsys):
    ebjr_det.build_serving(routed_digits, ebjr_det.ServeSettings(policy="share"))
    assert "promises of the loss is void" in capsys.readouterr().err


@pytest.mark.shared
def test_photographs_raise_the_drift_alarm_of_a_pair_of_digits(routed_digits, shared_data):
    app = ebjr_det.build_serving(routed_digits, ebjr_det.ServeSettings(access_log=False))
    watch, headers = app.state.desk.bench.watch, {"Inference-Header-Content-Length": "0"}
    with TestClient(app) as client:
        for path in sorted((shared_data / "coco" / "val2017").glob("*.jpg"))[:192]:
            assert not watch.alarm
            answer = client.post("/v2/models/pair-student/infer", content=path.read_bytes(), headers=headers)
            assert answer.status_code == 200
        assert watch.alarm
        assert "ebjr_drift_alarm 1.0" in client.get("/metrics").text


@contextmanager
def process_of(*options, port=0):
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-u", "-m", "ebjr_det", "serve", *map(str, options), "--port", str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def inferences(log):
    """Answered inferences in a server's log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return sum(line["path"].endswith("/infer") and line["status"] == 200 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_teachers_process_that_ends_or_stops_under_load_costs_no_answer(
    routed_digits, digit_pictures, sign
):
    content = sorted(digit_pictures.iterdir())[0].read_bytes()
    with (
        process_of(routed_digits, "--tier", "teacher") as (process, teacher),
        process_of(routed_digits, "--teacher", teacher, "--no-access-log") as (student_process, student),
    ):
        busy = threading.Event()
        started = threading.Thread(target=lambda: (busy.wait(60), process.send_signal(sign)))
        started.start()
        seen = count(ask_many(student, content, 8, 60, lambda answers: len(answers) > 100 and busy.set()))
        started.join()
        assert sum(seen.values()) == 480
        assert pictures_answered(student) == seen
        assert {kind for kind in seen if kind[0] == "student"} <= {("student", word) for word in REASONS}
        if sign == signal.SIGSTOP:
            process.send_signal(signal.SIGCONT)
            client = ebjr_det.Client(student)
            while client.infer([content], **TO_TEACHER)["answered_by"] != ["teacher"]:
                pass
        if sign == signal.SIGTERM:
            _, log = process.communicate(timeout=60)
            assert process.returncode == 0
            unread = inferences(log) - 2 - seen["teacher", ""]
            assert unread <= seen.get(("student", "timeout"), 0), "an answer that was given did not arrive"
        student_process.send_signal(signal.SIGTERM)
        assert student_process.wait(60) == 0
