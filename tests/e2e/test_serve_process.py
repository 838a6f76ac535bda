"""`ebjr-det serve` as a process: what it imports, signals, its port. Waits are by event."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from common import ROOT

import ebjr_det
from ebjr_det.serving.server import listen

HEAVY = ["torch", "torchvision", "timm", "matplotlib", "ray", "sklearn", "ebjr_det.reporting"]
INSIDE = f"""
import sys, threading
from ebjr_det.__main__ import main

try:
    main()
finally:
    print("LOADED", sorted(set({HEAVY!r}) & set(sys.modules)))
"""


@contextmanager
def serving(folder: Path, *options: str):
    """A server in a process of its own, with its address."""
    command = [sys.executable, "-c", INSIDE, "serve", str(folder), "--port", "0", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def post(address: str, content: bytes) -> dict:
    request = urllib.request.Request(f"{address}/v2/models/pair/infer", content)
    request.add_header("Content-Type", "image/png")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def test_sigterm_under_load_cuts_no_answer_and_ends_with_0_without_torch(exported_digits, digit_pictures):
    content = (digit_pictures / "00.png").read_bytes()
    answers, faults, busy = [], [], threading.Event()

    def ask_on(address):
        while not faults:
            try:
                answers.append(post(address, content))
            except (ConnectionError, urllib.error.URLError) as error:
                faults.append(error)
            if len(answers) >= 20:
                busy.set()

    with serving(exported_digits) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        clients = [threading.Thread(target=ask_on, args=(address,)) for _ in range(4)]
        for client in clients:
            client.start()
        assert busy.wait(120)
        process.send_signal(signal.SIGTERM)
        output, log = process.communicate(timeout=120)
        for client in clients:
            client.join(120)
    assert process.returncode == 0, log
    assert "LOADED []" in output
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {line["status"] for line in lines} == {200}
    assert len(lines) == len(answers), "an answer that was given did not arrive whole"


def test_sighup_reads_the_pair_anew_and_a_damaged_one_changes_nothing(
    exported_digits, digit_pictures, tmp_path
):
    folder, content = tmp_path / "pair", (digit_pictures / "00.png").read_bytes()
    folder.mkdir()
    for path in exported_digits.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with serving(folder, "--no-access-log") as (process, address):
        first = post(address, content)
        for damage, word in ((b"x", "Not reloaded"), (b"", "Reloaded.")):
            path = exported_digits / "pair.json"
            (folder / "pair.json").write_bytes(damage + path.read_bytes())
            process.send_signal(signal.SIGHUP)
            assert word in process.stderr.readline()
            assert post(address, content)["outputs"] == first["outputs"]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0


FUZZER = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]  # a deadline of nothing is missed

[checks.positive_data_acceptance]
enabled = false  # no form can say which bytes are a picture
"""
QUICK = ("--max-examples", "2", "--include-path-regex", "^/(v2|openapi).*(load|health|pair|pair/infer)$")


@pytest.mark.parametrize("options", [QUICK, pytest.param((), marks=pytest.mark.slow)], ids=["quick", "all"])
def test_what_the_server_says_of_itself_is_true_of_it(exported_digits, served_at, tmp_path, options):
    """Its description against its answers: statuses, kinds, forms, bad requests refused, no 5xx but 504."""
    pytest.importorskip("schemathesis")
    (tmp_path / "schemathesis.toml").write_text(FUZZER)
    with served_at(exported_digits) as address:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", tmp_path / "schemathesis.toml"]
        command += ["run", f"{address}/openapi.json", "--no-color", "--generation-deterministic", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout
    assert f"{5 if options else 31}/31" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--policy", "fast"], "policy among"),
        (["--policy", "share"], "reference scores"),
        (["--policy", "queue"], "reference scores"),
        (["--port", "70000"], "a port from 0"),
        (["--name", "a/b"], "as a name"),
        (["--largest-batch", "0"], "largest_batch"),
        (["--host", "203.0.113.7"], "to listen on"),
        (["--threshold", "1", "--rate", "0.5"], "got both"),
        (["--address", "auto"], "--ray beside"),
        (["--slo-ms", "9"], "beside --policy queue"),
        (["--ray", "--address", ""], "as auto, HOST:PORT or ray://HOST:PORT, got ``"),
        (["--ray", "--address", "127.0.0.1:1"], "Ray cluster at `127.0.0.1:1`, got: Connection refused"),
        (["--ray", "--address", "ray://127.0.0.1:1"], "`ray://127.0.0.1:1`, got: Connection refused"),
        (["--ray", "--address", "127.0.0.1:99999"], "Ray cluster at"),
        (["--ray", "--tier", "teacher"], "no --tier"),
        (["--ray", "--policy", "share"], "reference scores"),
    ],
)
def test_what_cannot_be_served_is_one_line(exported_digits, refused, options, words):
    assert words in refused("serve", exported_digits, *options)


def test_a_server_that_is_no_ray_is_one_line(exported_digits, refused, served_at):
    with served_at(exported_digits) as address:
        place = address.removeprefix("http://")
        assert "got: another server" in refused("serve", exported_digits, "--ray", "--address", place)


def test_a_cluster_without_ray_is_one_line(exported_digits, refused, monkeypatch):
    monkeypatch.setattr("ebjr_det.api.serve.PACKAGES", ("starlette",))
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "got no ray. Install them: pip install" in refused("serve", exported_digits, "--ray")


def test_a_port_in_use_and_a_folder_that_is_none_are_one_line(exported_digits, refused, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        message = refused("serve", exported_digits, "--port", taken.getsockname()[1])
    assert "Address already in use" in message
    assert "Expected" in refused("serve", tmp_path, "--port", 0)


def test_answers_do_not_wait_for_a_clients_acknowledgement():
    with listen(ebjr_det.ServeSettings(port=0)) as listener, socket.socket() as client:
        client.connect(listener.getsockname())
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
