"""`serve`: the protocol, answers and decisions to the bit, and one line for whatever is wrong."""

import base64
import gzip
import hashlib
import io
import json
import shutil
import struct
import threading
import zlib
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from test_serve_process import serving

import ebjr_det
from ebjr_det.core.errors import CheckpointError
from ebjr_det.core.router import decide, operating_points
from ebjr_det.serving import app
from ebjr_det.tasks.classification.data import build_data

INFER, LENGTH = "/v2/models/pair/infer", "Inference-Header-Content-Length"
JSON = {"Content-Type": "application/json"}
SMALL = ebjr_det.ServeSettings(access_log=False, body_mb=1, pixels=1)


def png(array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def digits() -> list[np.ndarray]:
    """200 test digits as RGB."""
    data = build_data("digits", split="test", limit=200)
    return [np.asarray(Image.fromarray(data.load(index)).convert("RGB")) for index in range(200)]


@pytest.fixture(scope="module")
def client(routed_digits):
    with TestClient(ebjr_det.build_serving(routed_digits, SMALL)) as client:
        yield client


def binary(contents, parameters=None, outputs=None) -> tuple[bytes, dict[str, str]]:
    """A request in the binary extension as tritonclient writes it: body and headers."""
    raw = b"".join(struct.pack("<I", len(content)) + content for content in contents)
    tensor = {"name": "image", "shape": [len(contents)], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    header = {"id": "7", "inputs": [tensor]}
    header |= {"outputs": outputs} if outputs else {}
    header["parameters"] = (parameters or {}) | ({} if outputs else {"binary_data_output": True})
    text = json.dumps(header).encode()
    return text + raw, {LENGTH: str(len(text))}


def tensors(response) -> dict[str, object]:
    """Every output by its name, from JSON or raw bytes."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    raw, values = response.content[length:], {}
    kinds = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}
    for tensor in json.loads(response.content[:length])["outputs"]:
        name, kind, shape = tensor["name"], tensor["datatype"], tensor["shape"]
        if "data" in tensor:
            values[name] = (
                tensor["data"]
                if kind == "BYTES"
                else np.array(tensor["data"], kinds.get(kind)).reshape(shape)
            )
            continue
        part, raw = np.split(np.frombuffer(raw, "u1"), [tensor["parameters"]["binary_data_size"]])
        raw = raw.tobytes()
        values[name] = _texts(part.tobytes()) if kind == "BYTES" else part.view(kinds[kind]).reshape(shape)
    assert LENGTH not in response.headers or not raw
    return values


def _texts(raw: bytes) -> list[str]:
    texts = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return texts


def test_200_answers_and_decisions_are_those_of_load_to_the_bit(client, digits, routed_digits):
    pair, ways = ebjr_det.load(routed_digits), set()
    for digit in digits:
        expected = pair([digit])
        body, headers = binary([png(digit)])
        answer = tensors(client.post(INFER, content=body, headers=headers))
        assert answer["logits"][0].tobytes() == expected.predictions[0].tobytes()
        assert answer["deferral_score"].tobytes() == expected.decision.scores.tobytes()
        assert tuple(answer["answered_by"]) == expected.answered_by
        assert answer["threshold"][0] == pair.threshold
        ways |= set(answer["answered_by"])
    assert ways == {"student", "teacher"}


def test_json_raw_pixels_bare_files_and_packed_bodies_give_the_bits_of_binary(client, digits):
    digit = digits[5]
    body, headers = binary([png(digit)])
    expected = tensors(client.post(INFER, content=body, headers=headers))
    encoded = base64.b64encode(png(digit)).decode()
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
    pixels = {"name": "image", "shape": [1, *digit.shape], "datatype": "UINT8"}
    text = json.dumps({"inputs": [pixels | {"parameters": {"binary_data_size": digit.size}}]}).encode()
    requests = [
        (json.dumps({"inputs": [image]}).encode(), JSON),
        (json.dumps({"inputs": [pixels | {"data": digit.tolist()}]}).encode(), JSON),
        (text + digit.tobytes(), {LENGTH: str(len(text))}),
        (png(digit), {"Content-Type": "image/png"}),
        (png(digit), {LENGTH: "0"}),
        (gzip.compress(body), headers | {"Content-Encoding": "gzip"}),
        (zlib.compress(body), headers | {"Content-Encoding": "deflate"}),
    ]
    for content, fields in requests:
        for accepted in ("identity", "gzip"):
            got = client.post(INFER, content=content, headers={"Accept-Encoding": accepted} | fields)
            for name, values in tensors(got).items():
                assert np.array_equal(values, expected[name]), (name, fields)


def test_much_to_read_is_read_beside_the_loop(client, digits, monkeypatch):
    loop, threads, read = client.portal.call(threading.get_ident), set(), app.read_request

    def noted(*arguments):
        threads.add(threading.get_ident())
        return read(*arguments)

    monkeypatch.setattr(app, "read_request", noted)
    monkeypatch.setattr(app, "LONG", 10)
    body, headers = binary([png(digits[0])])
    assert client.post(INFER, content=body, headers=headers).status_code == 200
    assert len(threads) == 1
    assert loop not in threads


def test_thresholds_of_requests_give_every_sampled_point_of_the_curve(client, digits):
    contents = [png(digit) for digit in digits]

    def ask(threshold):
        answers = []
        for start in range(0, 200, 50):
            body, headers = binary(contents[start : start + 50], {"threshold": threshold})
            answers.append(tensors(client.post(INFER, content=body, headers=headers)))
        return [
            np.concatenate([answer[name] for answer in answers]) for name in ("deferral_score", "answered_by")
        ]

    scores, _ = ask(0.0)
    thresholds, deferred = operating_points(scores)
    for index in np.linspace(1, len(thresholds) - 2, 12).astype(int):
        _, sides = ask(thresholds[index])
        assert np.array_equal(sides == "teacher", decide(scores, thresholds[index]).defer)
        assert (sides == "teacher").sum() == deferred[index]


def test_parameters_decide(client, digits, routed_digits):
    contents, pair = [png(digit) for digit in digits[:64]], ebjr_det.load(routed_digits)

    def ask(parameters, path=INFER):
        body, headers = binary(contents, parameters, [{"name": "answered_by"}, {"name": "threshold"}])
        answer = tensors(client.post(path, content=body, headers=headers))
        assert set(answer) == {"answered_by", "threshold"}
        return answer["answered_by"].count("teacher"), answer["threshold"][0]

    assert ask({"force": "student"})[0] == 0
    assert ask({"force": "teacher"})[0] == 64
    assert ask({}, "/v2/models/pair-student/infer")[0] == 0
    assert ask({}, "/v2/models/pair-teacher/versions/1/infer")[0] == 64
    assert ask({"threshold": 1e300, "max_latency_ms": 60000})[0] == 0
    assert ask({"deferral_rate": 0.3})[1] == pair.router.threshold_for(0.3)
    assert ask({"deferral_rate": 1})[0] == 64


def test_boxes_are_those_of_load_to_the_bit(exported_scenes, scene_pictures):
    pair, settings = ebjr_det.load(exported_scenes), ebjr_det.ServeSettings(access_log=False)
    with TestClient(ebjr_det.build_serving(exported_scenes, settings)) as client:
        paths = sorted(scene_pictures.iterdir())[:4]
        answers = []
        for path in paths:
            expected = pair([path])
            body, headers = binary([path.read_bytes()])
            answer = tensors(client.post(INFER, content=body, headers=headers))
            detections = expected.predictions[0]
            for name in ("boxes", "scores"):
                assert answer[name].tobytes() == getattr(detections, name).tobytes()
            assert answer["labels"].tolist() == detections.labels.tolist()
            assert answer["counts"].tolist() == [len(detections)]
            answers += expected.answered_by
        assert set(answers) == {"student", "teacher"}
        refused = client.post(INFER, params={"deferral_rate": "0.5"}, content=paths[0].read_bytes(),
                              headers={LENGTH: "0"})  # fmt: skip
        assert refused.status_code == 400
        assert "reference scores" in refused.json()["error"]


def test_what_the_server_tells_of_itself(client, digits, routed_digits):
    body, headers = binary([png(digits[0])] * 3)
    asked_for = client.post(INFER, content=body, headers=headers)
    facts = json.loads(asked_for.content[: int(asked_for.headers[LENGTH])])["parameters"]
    assert (
        facts["router_sha256"]
        == hashlib.sha256((routed_digits / "router.safetensors").read_bytes()).hexdigest()
    )
    assert facts["policy"] == "calibrated"
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
    for path in (
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/pair/ready",
        "/v2/models/pair/versions/1/ready",
    ):
        assert client.get(path).status_code == 200
    model = client.get("/v2/models/pair").json()
    assert {"name": "logits", "datatype": "FP32", "shape": [-1, -1]} in model["outputs"]
    statistics = client.get("/v2/models/pair/stats").json()["model_stats"][0]
    assert statistics["inference_count"] >= statistics["execution_count"] > 0
    sizes = {row["batch_size"]: row["compute_infer"]["count"] for row in statistics["batch_stats"]}
    assert sizes[3] >= 1
    assert sum(size * count for size, count in sizes.items()) >= statistics["inference_count"]
    assert statistics["last_inference"] > 1e12
    assert len(client.get("/v2/models/stats").json()["model_stats"]) == 3
    metrics = client.get("/metrics").text
    counted = [
        float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("ebjr_pictures_total")
    ]
    assert sum(counted) == statistics["inference_count"]
    assert "ebjr_drift_alarm" in metrics


def bomb() -> bytes:
    """A few bytes that say they are a picture of 10^10 pixels."""
    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in ((b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    )


PICTURE = png(np.zeros((8, 8, 3), np.uint8))
BYTES = {"name": "image", "shape": [1], "datatype": "BYTES"}
TEXT = base64.b64encode(PICTURE).decode()


def asked(**fields) -> bytes:
    return json.dumps({"inputs": [BYTES | {"data": [TEXT]}]} | fields).encode()


def with_input(**fields) -> bytes:
    return json.dumps({"inputs": [BYTES | {"data": [TEXT]} | fields]}).encode()


BAD = {
    "no json": (b"{", {}, 400),
    "deep json": (b"[" * 100_000, {}, 400),
    "no inputs": (asked(inputs=[]), {}, 400),
    "two inputs": (asked(inputs=[BYTES, BYTES]), {}, 400),
    "another input": (with_input(name="x"), {}, 400),
    "no pictures": (with_input(shape=[0], data=[]), {}, 400),
    "65 pictures": (with_input(shape=[65], data=[TEXT] * 65), {}, 400),
    "lying shape": (with_input(shape=[2]), {}, 400),
    "address": (with_input(data=["http://127.0.0.1/x.png"]), {}, 400),
    "not base64": (with_input(data=[7]), {}, 400),
    "datatype": (with_input(datatype="FP32"), {}, 400),
    "levels": (with_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[[[[1, 2, 256]]]]), {}, 400),
    "ragged": (with_input(datatype="UINT8", shape=[1, 1, 1, 3], data=[[1], 2]), {}, 400),
    "huge shape": (with_input(datatype="UINT8", shape=[1, 2**40, 2**40, 3], data=[1]), {}, 400),
    "NaN": (asked(parameters={"threshold": float("nan")}), {}, 400),
    "NaN rate": (asked(parameters={"deferral_rate": float("nan")}), {}, 400),
    "NaN deadline": (asked(parameters={"max_latency_ms": float("nan")}), {}, 400),
    "text threshold": (asked(parameters={"threshold": "high"}), {}, 400),
    "true threshold": (asked(parameters={"threshold": True}), {}, 400),
    "rate": (asked(parameters={"deferral_rate": 1.5}), {}, 400),
    "deadline": (asked(parameters={"max_latency_ms": 0}), {}, 400),
    "force": (asked(parameters={"force": "both"}), {}, 400),
    "two ways": (asked(parameters={"force": "student", "threshold": 0}), {}, 400),
    "unknown parameter": (asked(parameters={"treshold": 1}), {}, 400),
    "unknown output": (asked(outputs=[{"name": "x"}]), {}, 400),
    "cut binary": (binary([PICTURE])[0][:-1], binary([PICTURE])[1], 400),
    "65 in binary": (*binary([PICTURE] * 65), 400),
    "lying sizes": (
        binary([PICTURE])[0].replace(struct.pack("<I", len(PICTURE)), b"\xff" * 4),
        *binary([PICTURE])[1:],
        400,
    ),
    "address in binary": (*binary([b"http://127.0.0.1/x.png"]), 400),
    "lying header": (b"{}", {LENGTH: "9999999"}, 400),
    "odd header": (b"{}", {LENGTH: "-1"}, 400),
    "empty picture": (b"", {LENGTH: "0"}, 400),
    "no picture": (b"hello", {LENGTH: "0"}, 400),
    "cut picture": (PICTURE[:40], {LENGTH: "0"}, 400),
    "bomb": (bomb(), {LENGTH: "0"}, 400),
    "large picture": (png(np.zeros((1100, 1100, 3), np.uint8)), {LENGTH: "0"}, 400),
    "large body": (bytes(1_000_001), {LENGTH: "0"}, 413),
    "packed bomb": (gzip.compress(bytes(50_000_000)), {LENGTH: "0", "Content-Encoding": "gzip"}, 413),
    "not packed": (b"{}", {"Content-Encoding": "gzip"}, 400),
    "cut pack": (gzip.compress(asked())[:-9], {"Content-Encoding": "gzip"}, 400),
    "packing": (b"{}", {"Content-Encoding": "br"}, 415),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_one_line_and_spoils_nothing(client, name, routed_digits):
    body, headers, status = BAD[name]
    response = client.post(INFER, content=body, headers=headers)
    message = response.json()["error"]
    assert response.status_code == status, message
    assert "\n" not in message
    assert len(message) < 500
    assert not any(inside in message for inside in ("Traceback", "0x", str(routed_digits), "site-packages"))
    assert client.post(INFER, content=asked()).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/pair/versions/9/infer", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", INFER, 405),
        ("GET", "/v3", 404),
        ("POST", "/v2/repository/models/other/load", 404),
        ("GET", "/v2/repository/models/pair/load", 405),
    ],
)
def test_addresses_that_are_not_there(client, method, path, status):
    response = client.request(method, path, content=asked() if method == "POST" else None)
    assert response.status_code == status
    assert response.json()["error"].startswith("Expected")


def test_only_this_machine_may_load_anew_and_what_is_not_read_changes_nothing(exported_digits, tmp_path):
    folder, load = (
        Path(shutil.copytree(exported_digits, tmp_path / "pair")),
        "/v2/repository/models/pair/load",
    )
    app = ebjr_det.build_serving(folder, ebjr_det.ServeSettings(host="0.0.0.0", access_log=False))

    def damaged_weights():
        raise CheckpointError(f"Expected weights in `{folder}`, got none of `{folder}/student.onnx`.")

    with TestClient(app, client=("127.0.0.1", 1)) as near:
        first = app.state.desk.bench
        for client in (TestClient(app, client=(host, 1)) for host in ("192.0.2.7", "::ffff:192.0.2.7", "x")):
            assert client.post(load).status_code == 403
        for header in ("X-Forwarded-For", "Forwarded", "Origin", "Via", "X-Real-IP"):
            assert near.post(load, headers={header: "127.0.0.1"}).status_code == 403
        for body in (b"{", b'{"parameters": {"config": "{}"}}', b'{"config": {}}', b"[]", b"\xff", b"null"):
            assert near.post(load, content=body).status_code == 400
        assert app.state.desk.bench is first
        assert (near.post(load).status_code, near.post(load, json={"parameters": {}}).json()) == (200, {})
        second = app.state.desk.bench
        assert second is not first
        near.portal.call(app.state.desk.reloading.acquire)
        assert near.post(load).status_code == 503
        near.portal.call(app.state.desk.reloading.release)
        load_pair, app.state.desk.load = app.state.desk.load, damaged_weights
        refused = near.post(load)
        assert (refused.status_code, str(tmp_path) in refused.text) == (400, False), refused.text
        app.state.desk.load = load_pair
        (folder / "pair.json").write_text("{}")
        refused = near.post(load)
        assert (refused.status_code, str(tmp_path) in refused.text) == (400, False), refused.text
        assert app.state.desk.bench is second
        assert near.post(INFER, content=asked()).status_code == 200
        counted = near.get("/metrics").text
    assert 'ebjr_reloads_total{result="done"} 2.0' in counted
    assert 'ebjr_reloads_total{result="refused"} 2.0' in counted


def test_a_server_without_administration_has_no_address_for_it(routed_digits):
    settings = ebjr_det.ServeSettings(admin=False, access_log=False)
    with TestClient(ebjr_det.build_serving(routed_digits, settings), client=("127.0.0.1", 1)) as near:
        assert near.post("/v2/repository/models/pair/load").status_code == 404
        assert not [path for path in near.get("/openapi.json").json()["paths"] if "repository" in path]


def test_spans_of_a_request_and_its_stages_go_where_the_program_sends_them(client, monkeypatch):
    trace = pytest.importorskip("opentelemetry.trace")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    content = asked(parameters={"force": "teacher"})
    assert client.post(INFER, content=content, headers={"traceparent": parent}).status_code == 200
    *stages, span = exporter.get_finished_spans()
    assert (span.name, f"{span.context.trace_id:032x}") == ("infer", parent.split("-")[1])
    assert {stage.parent.span_id for stage in stages} == {span.context.span_id}
    assert [stage.name for stage in stages] == ["read", "student_wait", "student", "teacher_wait", "teacher"]
    assert [one.end_time for one in stages[:-1]] == [one.start_time for one in stages[1:]]
    assert dict(span.attributes) == {
        "ebjr.pictures": 1, "ebjr.deferred": 1, "ebjr.threshold": float("-inf"), "ebjr.degraded": (),
    }  # fmt: skip
    assert client.post(INFER, content=asked(parameters={"threshold": "x"})).status_code == 400


def mutated(count: int):
    """So many requests with bytes changed, cut out, doubled or cut off, body and headers."""
    generator = np.random.default_rng(0)
    seeds = [(asked(parameters={"threshold": 0.5, "max_latency_ms": 500.0}), {}), binary([PICTURE, PICTURE])]
    seeds += [(PICTURE, {LENGTH: "0"}), (with_input(datatype="UINT8", shape=[1, 2, 2, 3], data=[7] * 12), {})]
    for index in range(count):
        body, headers = seeds[index % len(seeds)]
        content = bytearray(body)
        for _ in range(generator.integers(1, 6)):
            start = int(generator.integers(len(content) + 1))
            stop = start + int(generator.integers(1, 9))
            kind = generator.integers(4)
            if kind == 0:
                content[start:stop] = generator.bytes(stop - start)
            elif kind == 1:
                del content[start:stop]
            elif kind == 2:
                content[start:start] = content[start:stop]
            elif generator.random() < 0.2:
                del content[start:]
        if LENGTH in headers and generator.random() < 0.3:
            headers = headers | {LENGTH: str(int(generator.integers(0, 2 * len(body))))}
        yield bytes(content), headers


def test_mutated_bodies_are_answered_or_refused(client):
    statuses = set()
    for body, headers in mutated(400):
        response = client.post(INFER, content=body, headers=headers)
        statuses.add(response.status_code)
        assert response.status_code in (200, 400, 413), (response.status_code, body[:200], response.text)
    assert statuses >= {200, 400}
    assert client.post(INFER, content=asked()).status_code == 200


@pytest.mark.slow
def test_10_000_mutated_bodies_leave_a_process_alive(exported_digits):
    with serving(exported_digits, "--no-access-log") as (process, address):
        statuses, connection = Counter(), HTTPConnection(urlsplit(address).netloc, timeout=60)
        for body, headers in mutated(10_000):
            connection.request("POST", INFER, body, headers)
            response = connection.getresponse()
            response.read()
            statuses[response.status] += 1
        assert process.poll() is None
    assert set(statuses) <= {200, 400, 413}, statuses
    assert min(statuses[200], statuses[400]) > 100, statuses
