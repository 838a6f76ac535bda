"""`bulk predict` on a Ray of two nodes, stand-ins for machines, and with one of them killed amid the job.

    python eval/bulk/nodes.py FOLDER > eval/bulk/results/nodes.json

FOLDER is that of `proof.py`, or is made; its job of one process is what all others are compared with. Needs
the extra [ray].
"""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from ebjr_det.io.clusters import RAY

# which Ray gives up after seconds on a busy machine
os.environ |= {"RAY_raylet_start_wait_time_s": "600"} | RAY | os.environ
os.environ |= {"RAY_worker_register_timeout_seconds": "600"} | os.environ

import ray
from proof import SHARD, THRESHOLD, Proof, draw
from ray.cluster_utils import Cluster

import ebjr_det
from ebjr_det.api import bulk
from ebjr_det.core.errors import EbjrError

CPUS, KILL_AT = 4, 40
"""Logical CPUs of a node, however many cores there are; finished shards at which the second one is killed."""


def noted(folder: Path, build: Any, *arguments: Any) -> Any:
    """A stage, built by an actor, which leaves its node and its process in the name of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{ray.get_runtime_context().get_node_id()[:8]}-{os.getpid()}").touch()
    return build(*arguments)


def run(place: Path, out: str, address: str) -> dict[str, object]:
    """A job, or the rest of it: what it tells, and how many actors of each pool have begun on which node."""
    pools = {name: place / f"{out}-actors" / name for name in ("student", "teacher")}
    builders = {name: getattr(bulk, f"_{name}") for name in pools}
    for name, folder in pools.items():
        setattr(bulk, f"_{name}", partial(noted, folder, builders[name]))
    config, settings = ebjr_det.load_config("digits"), ebjr_det.BulkSettings(shard=SHARD, ray=address)
    told: dict[str, object]
    try:
        result = ebjr_det.bulk_predict(config, "pictures", out, settings, threshold=THRESHOLD)
        told = {"shards": result.shards, "resumed": result.resumed}
    except EbjrError as error:
        told = {"refused": str(error)}
    for name, build in builders.items():
        setattr(bulk, f"_{name}", build)
    nodes = {name: [file.name.split("-")[0] for file in folder.glob("*")] for name, folder in pools.items()}
    begun = {name: {node: names.count(node) for node in sorted(set(names))} for name, names in nodes.items()}
    return told | {"actors": begun, "load": os.getloadavg()[0]}


def measure(place: Path) -> dict[str, object]:
    """The jobs, each against that of one process."""
    if not (place / "pictures").is_dir():
        draw(place / "pictures")
    proof = Proof(place)
    here = proof.compared("here") if (place / "here").is_dir() else proof.finished("here")
    report: dict[str, object] = {"here": here}
    os.chdir(place)
    sizes = {"num_cpus": CPUS, "object_store_memory": 256 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=sizes)
    second = cluster.add_node(**sizes)
    report["two nodes"] = run(place, "two_nodes", cluster.address) | proof.compared("two_nodes")

    def kill() -> None:
        while len(list((place / "killed_node/answers").glob("*.parquet"))) < KILL_AT:
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)

    killer = Thread(target=kill, daemon=True)
    killer.start()
    report["one node killed"] = run(place, "killed_node", cluster.address) | proof.compared("killed_node")
    killer.join()
    report["gone on with"] = run(place, "killed_node", cluster.address) | proof.compared("killed_node")
    cluster.shutdown()
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    print(json.dumps(measure(parser.parse_args().folder.absolute()), indent=2))
