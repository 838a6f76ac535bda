"""Does Triton's own client understand the server? Its answers against `load`, to the bit.

    pip install --target DIR --no-deps tritonclient gevent geventhttpclient python-rapidjson greenlet
    pip install --target DIR --no-deps brotli zope.event zope.interface
    PYTHONPATH=DIR python eval/serving/triton_client.py FOLDER

Into a folder of its own, since tritonclient wants a protobuf below 7. FOLDER is an export of a pair of digits
with a fitted router. Requests go as JSON, as raw bytes and packed by gzip and deflate, with one and two
pictures, chosen outputs and every parameter; metadata, health, statistics, a load anew and a refusal are
asked for. Prints one JSON object: how many answers were compared and which of them differed.
"""

import base64
import io
import json
import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

import ebjr_det
from ebjr_det.tasks.classification.data import build_data


def encoded(index: int) -> bytes:
    """A test digit as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(build_data("digits", split="test", limit=12).load(index)).save(buffer, "PNG")
    return buffer.getvalue()


def check(url: str, pair: Any) -> dict[str, object]:
    """Compare every way to ask."""
    import tritonclient.http as triton
    from tritonclient.utils import InferenceServerException

    client, compared = triton.InferenceServerClient(url.removeprefix("http://")), 0
    differing: list[object] = []
    contents = [encoded(index) for index in range(12)]
    ways = product((1, 2), (True, False), (None, "gzip", "deflate"), (None, "gzip"), range(0, 12, 2))
    for count, binary, packed, answer_packed, start in ways:
        batch = contents[start : start + count]
        image = triton.InferInput("image", [count], "BYTES")
        texts = batch if binary else [base64.b64encode(content) for content in batch]
        image.set_data_from_numpy(np.array(texts, dtype=object), binary_data=binary)
        names = ("logits", "answered_by", "deferral_score")
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
        result = client.infer(
            "pair", [image], outputs=outputs, parameters={"threshold": 0.1},
            request_compression_algorithm=packed, response_compression_algorithm=answer_packed,
        )  # fmt: skip
        expected = pair([Image.open(io.BytesIO(content)) for content in batch], threshold=0.1)
        sides = [
            name.decode() if isinstance(name, bytes) else name for name in result.as_numpy("answered_by")
        ]
        same = (
            np.array_equal(result.as_numpy("logits"), np.stack(expected.predictions))
            and np.array_equal(result.as_numpy("deferral_score"), expected.decision.scores)
            and tuple(sides) == expected.answered_by
        )
        compared += 1
        differing += [] if same else [[count, binary, packed, answer_packed, start]]
    rules: Any = (
        {"deferral_rate": 0.5},
        {"force": "teacher"},
        {"force": "student", "max_latency_ms": 60_000},
    )
    answered = {}
    for model, rule in [("pair", rule) for rule in rules] + [("pair-teacher", {}), ("pair-student", {})]:
        result = client.infer(model, [image], parameters=rule or None, request_id="7")
        sides = [name.decode() for name in result.as_numpy("answered_by")]
        threshold = float(result.as_numpy("threshold")[0])
        answered[f"{model} {rule}"] = {"id": result.get_response()["id"], "sides": sides}
        if "deferral_rate" in rule and threshold != pair.router.threshold_for(rule["deferral_rate"]):
            differing.append([model, rule])
    client.load_model("pair")
    statistics = client.get_inference_statistics("pair")["model_stats"][0]
    try:
        client.infer("pair", [image], outputs=outputs, parameters={"threshold": "high"})
        refusal = ""
    except InferenceServerException as error:
        refusal = f"{error.status()}: {error.message()}"
    return {
        "compared": compared,
        "differing": differing,
        "live": client.is_server_live(),
        "ready": client.is_server_ready() and client.is_model_ready("pair", "1"),
        "extensions": client.get_server_metadata()["extensions"],
        "inputs": client.get_model_metadata("pair")["inputs"],
        "answered": answered,
        "inference_count": statistics["inference_count"],
        "success": statistics["inference_stats"]["success"]["count"],
        "batch_sizes": [batch["batch_size"] for batch in statistics["batch_stats"]],
        "refusal": refusal,
    }


def main() -> None:
    """Start a server, check, print."""
    command = [sys.executable, "-u", "-m", "ebjr_det", "serve", sys.argv[1], "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            print(json.dumps(check(url, ebjr_det.load(sys.argv[1])), indent=2))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
