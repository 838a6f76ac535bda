"""How long a request takes, at 1, 8 and 32 clients, beside the same pair called in the same process.

    python eval/serving/latency.py FOLDER [--requests 400] [--rate 0.3] [--set run.device=cpu]

FOLDER is an export of a pair of digits with a fitted router. The server is a process of its own; each client
is a thread here with a connection of its own that sends one test digit a request and waits for the answer.
`in_process` is `load(FOLDER)` on the same encoded pictures, decoding included, called in turn; `predict` is
pictures a second of `ebjr-det predict` on the same files at the same rate. Prints one JSON object; the
machine's load average at each step is in it, and above the number of CPUs all times are noisy.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image

import ebjr_det
from ebjr_det.io.threads import usable_cpus
from ebjr_det.tasks.classification.data import build_data

CLIENTS = (1, 8, 32)


def pictures(count: int) -> list[bytes]:
    """Encoded test digits."""
    data = build_data("digits", split="test")
    contents: list[bytes] = []
    for index in range(count):
        buffer = io.BytesIO()
        Image.fromarray(data.load(index % len(data))).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    return contents


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    p50, p99 = np.percentile(np.array(seconds) * 1000, (50, 99))
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def in_process(folder: str, contents: list[bytes], rate: float) -> dict[str, float]:
    """The pair itself, one picture after the other."""
    pair = ebjr_det.load(folder, rate=rate)
    seconds: list[float] = []
    for content in contents:
        started = perf_counter()
        pair([Image.open(io.BytesIO(content))])
        seconds.append(perf_counter() - started)
    return percentiles(seconds[20:])


def at_server(url: str, contents: list[bytes], clients: int, rate: float) -> dict[str, float]:
    """So many clients at a time that share the pictures."""
    seconds: list[float] = []

    def ask(part: list[bytes]) -> None:
        client = ebjr_det.Client(url)
        for content in part:
            started = perf_counter()
            client.infer([content], deferral_rate=rate)
            seconds.append(perf_counter() - started)

    started = perf_counter()
    threads = [threading.Thread(target=ask, args=(contents[at::clients],)) for at in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = perf_counter() - started
    facts = {"pictures_per_second": round(len(contents) / total, 1), "load_average": os.getloadavg()[0]}
    return percentiles(seconds) | facts


def at_predict(folder: str, contents: list[bytes], rate: float) -> float:
    """Pictures a second of `predict`, drawing included."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "pictures")
        source.mkdir()
        for index, content in enumerate(contents):
            (source / f"{index:05}.png").write_bytes(content)
        command = [sys.executable, "-m", "ebjr_det", "predict", folder, str(source), "--out", f"{place}/out"]
        done = subprocess.run(
            [*command, "--rate", str(rate), "--json"], capture_output=True, text=True, check=True
        )
    return round(float(json.loads(done.stdout)["pictures_per_second"]), 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rate", type=float, default=0.3)
    args = parser.parse_args()
    contents = pictures(args.requests)
    command = [sys.executable, "-u", "-m", "ebjr_det", "serve", args.folder, "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            at_server(url, contents[:50], 1, args.rate)
            result: dict[str, object] = {"requests": args.requests, "rate": args.rate}
            result["in_process"] = in_process(args.folder, contents, args.rate)
            result["clients"] = {str(n): at_server(url, contents, n, args.rate) for n in CLIENTS}
        finally:
            server.terminate()
            server.wait()
    result["predict_pictures_per_second"] = at_predict(args.folder, contents, args.rate)
    result["load_average"], result["cpus"] = os.getloadavg()[0], usable_cpus()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
