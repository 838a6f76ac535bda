"""`serve --ray` with the real Ray: bits, a teacher that is killed, a reload, the end. Waits are by event."""

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter

import pytest
from common import ROOT, check_served_bits

import ebjr_det
from ebjr_det.serving.client import Refused

psutil = pytest.importorskip("psutil")
pytest.importorskip("ray")
pytestmark = pytest.mark.slow
SECONDS = 180


class Cluster:
    """A server on a Ray of its own, and its log."""

    def __init__(self, folder):
        command = [sys.executable, "-u", "-m", "ebjr_det", "serve", str(folder), "--ray", "--port", "0"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([*command, "--patience-ms", "1000"], env=environment, **pipes)
        self.lines, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        self.address = next(line for line in self.process.stdout if line.startswith("Serving")).split()[-1]

    def read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()

    def logged(self, text):
        return sum(text in line for line in self.lines)

    def wait_for(self, text, count):
        with self.changed:
            assert self.changed.wait_for(lambda: self.logged(text) >= count, SECONDS)

    def kill_teacher(self):
        for process in psutil.Process(self.process.pid).children(recursive=True):
            if "ServeReplica:pair:teacher" in process.cmdline()[0]:
                process.kill()

    def counted(self):
        """Who answered and why not the teacher -> pictures, by the metrics."""
        text = urllib.request.urlopen(f"{self.address}/metrics", timeout=60).read().decode()
        rows = [line for line in text.splitlines() if line.startswith("ebjr_pictures_total{")]
        parts = [(line.split('"'), float(line.split()[-1])) for line in rows]
        return {(words[1], words[3]): int(value) for words, value in parts}


class Load:
    """Clients with one try each that ask until they are stopped or refused, and what they got."""

    def __init__(self, address, path):
        self.address, self.path, self.over = address, path, threading.Event()
        self.answers, self.failures, self.changed = Counter(), [], threading.Condition()
        self.threads = [threading.Thread(target=self.ask) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        client = ebjr_det.Client(self.address, tries=1)
        while not self.over.is_set():
            try:
                answer = client.infer([self.path], threshold=-1e300)
            except Refused as error:
                self.failures.append(error)
                return
            with self.changed:
                self.answers[answer["answered_by"][0], answer["degraded"][0]] += 1
                self.changed.notify_all()

    def wait_for(self, side, more):
        """So many more answers of a side."""

        def count():
            return sum(value for (by, _), value in self.answers.items() if by == side)

        with self.changed:
            target = count() + more
            assert self.changed.wait_for(lambda: count() >= target or self.failures, SECONDS)

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(SECONDS)


@pytest.fixture(scope="module")
def cluster(routed_digits):
    cluster = Cluster(routed_digits)
    with cluster.process:
        yield cluster
        cluster.process.terminate()
        cluster.process.wait(SECONDS)
    cluster.reader.join(SECONDS)


def test_a_cluster_answers_like_one_process_and_outlives_its_teacher(cluster, routed_digits, digit_pictures):
    pair, client = ebjr_det.load(routed_digits), ebjr_det.Client(cluster.address)
    expected_counts = Counter()
    for path in sorted(digit_pictures.iterdir()):
        for threshold in (pair.threshold, -1e300):
            expected, answer = pair([path], threshold), client.infer([path], threshold=threshold)
            check_served_bits(answer, expected)
            expected_counts[answer["answered_by"][0], ""] += 1
    assert {side for side, _ in expected_counts} == {"student", "teacher"}
    assert cluster.counted() == expected_counts

    load = Load(cluster.address, path)
    load.wait_for("teacher", 10)
    cluster.kill_teacher()
    load.wait_for("student", 10)
    with pytest.raises(Refused) as refused:
        client.infer([path], force="teacher")
    load.wait_for("teacher", 10)
    load.end()
    assert not load.failures
    assert {reason for _, reason in load.answers} <= {"", "timeout", "breaker", "died"}
    assert refused.value.status == 503
    assert cluster.counted() == expected_counts + load.answers

    cluster.process.send_signal(signal.SIGHUP)
    cluster.wait_for("Reloaded.", 2)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{cluster.address}/v2/repository/models/pair/load", data=b"", timeout=60)
    assert client.infer([path], threshold=-1e300)["logits"].tobytes() == answer["logits"].tobytes()

    last = Load(cluster.address, path)
    last.wait_for("teacher", 10)
    cluster.process.send_signal(signal.SIGTERM)
    assert cluster.process.wait(SECONDS) == 0
    cluster.reader.join(SECONDS)
    last.end()
    answers = expected_counts.total() + load.answers.total() + 1 + last.answers.total()
    assert cluster.logged('/infer", "status": 200') == answers, "an answer that was given did not arrive"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of ray, where it is imported
def test_a_reload_that_fails_on_a_replica_is_told_and_ends_no_server(monkeypatch, capsys):
    from ebjr_det.serving import cluster

    class Handle:
        def broadcast(self, method):
            return self

        def results(self, **options):
            raise TimeoutError("Timed out.")

    monkeypatch.setattr(cluster.serve, "get_deployment_handle", lambda tier, name: Handle())
    cluster._reload("pair")
    told = [f"Not reloaded, a {tier}: Timed out." for tier in ("teacher", "student")]
    assert capsys.readouterr().err.splitlines()[-2:] == told
