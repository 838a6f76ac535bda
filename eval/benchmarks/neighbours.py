"""What do busy neighbours cost, and what does sleeping cost where there are none?

    python eval/benchmarks/neighbours.py > eval/benchmarks/results/neighbours.json

Beside 0, 1 and 2 processes that do nothing but count, `predict`, `demo`, `evaluate` and a training of the
quickstart's student and pair go on for some seconds: pictures a second, without the start of the verb and, of
`evaluate`, without the analysis. Each under four policies, whose processes stay and take turns:

    awake   threads that spin while they wait, as OpenMP and OpenBLAS do by themselves
    brief   threads that spin for some 20 us and then sleep, as this package sets it
    asleep  threads that sleep at once (OMP_WAIT_POLICY=PASSIVE alone)
    single  one thread (`run.threads=1`)

`share` is the part of the speed of `awake` alone that a policy keeps beside n neighbours, `fair` the part
that n neighbours on C CPUs leave to one thread a CPU, C / (C + n), and `of_fair` is share / fair. Promised:
`of_fair` of `brief` at least 0.5. `idle_cost` is the time of one call of a network at batch 1 without
neighbours, over that of `awake`: medians over the rounds with an interval. Run it on a machine that does
nothing else; `load` says beside what each was measured. Prints one JSON object.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from rounds import Other, questions, ran_with, ratio, reply, summary, turns

from ebjr_det.cli.exits import run_safely
from ebjr_det.io.environment import keep_freed_memory
from ebjr_det.io.files import to_json
from ebjr_det.io.load import Meter
from ebjr_det.io.threads import limited_threads, usable_cpus
from ebjr_det.tasks.contract import RunsAnywhere

ROOT = Path(__file__).resolve().parents[2]
PAIR, STUDENT = ROOT / "configs" / "quickstart.yaml", ROOT / "eval" / "quickstart" / "student.yaml"
# libgomp spins 300,000 times where nothing is set, OpenBLAS for 2^26 cycles
POLICIES = {
    "awake": {"GOMP_SPINCOUNT": "300000", "OPENBLAS_THREAD_TIMEOUT": "26"},
    "brief": {},
    "asleep": {"GOMP_SPINCOUNT": "0"},
    "single": {},
}
IDLE = ("awake", "brief", "asleep")
JOBS, NEIGHBOURS, NETWORKS = ("predict", "demo", "evaluate", "train"), (0, 1, 2), ("student", "d0")
UNIT, STEPS = 4, 2
"""Pictures and steps in the least that is timed: a spinning pair beside a neighbour answers one a second."""
SETTLING = 0.3
"""Seconds from the start of a neighbour until it is busy."""


# --- In the process of a policy ---


def verbs_in(folder: Path) -> dict[str, Callable[[], float]]:
    """By name, a call that does a verb's least part and returns pictures a second."""
    import ebjr_det
    from ebjr_det.inference.pair import Pair
    from ebjr_det.inference.scoring import Scoring
    from ebjr_det.io.records import PartStore
    from ebjr_det.tasks.detection.datasets.digit_scenes import draw_scene
    from ebjr_det.tasks.settings import load_config, load_train_config

    pictures = folder / "pictures"
    pictures.mkdir()
    for index in range(UNIT):
        draw_scene("test", index).save(pictures / f"{index}.png")
    config = load_config(PAIR, [f"run.batch_size={UNIT}", f"data.limit={UNIT}"])
    pair, scores = Pair.build(config), Scoring.load(config.task, config.router, live=True).scores
    short = [f"steps={STEPS}", f"batch_size={UNIT}", "workers=0", "warmup_steps=0"]
    student = load_train_config(STUDENT, ["validation=null", *(f"schedule.{one}" for one in short)])
    count = iter(range(10**9))

    def place() -> Path:
        return folder / str(next(count))

    def predict() -> float:
        return float(
            ebjr_det.predict(config, [str(pictures)], place(), threshold=THRESHOLD).pictures_per_second
        )

    def demo() -> float:
        film = place().with_suffix(".mp4")
        return 1e3 / float(
            ebjr_det.demo(config, str(pictures), film, threshold=THRESHOLD).latency_ms["pair"] or 0
        )

    def evaluate() -> float:
        start = perf_counter()
        pair.run(scores, PartStore(place()))
        return UNIT / (perf_counter() - start)

    def train() -> float:
        trained = ebjr_det.train(student, place())
        assert trained is not None, "one process trains"
        return trained.pictures / trained.seconds

    return dict(zip(JOBS, (predict, demo, evaluate, train), strict=True))


THRESHOLD = -0.6
"""Of the energy, at which the pair defers one of these four scenes."""


def networks(runtimes: list[str]) -> dict[str, Callable[[], Any]]:
    """By name and runtime, a call of a network with one picture."""
    from ebjr_det.inference.pair import build_models
    from ebjr_det.runtimes.registry import build_network
    from ebjr_det.tasks.detection.data import build_data, build_named
    from ebjr_det.tasks.detection.model import build_model
    from ebjr_det.tasks.settings import load_config

    data = build_data("digit_scenes", split="test", limit=1)
    models = {
        "student": build_models(load_config(PAIR), data, "cpu")[0],
        "d0": build_model(
            build_named("coco", split="val2017"), "effdet/tf_efficientdet_d0", random_weights=True
        ),
    }
    found: dict[str, Callable[[], Any]] = {}
    for name, model in models.items():
        assert isinstance(model, RunsAnywhere)
        batch = model.batch([model.preprocess(data.load(0))])
        for runtime in runtimes:
            network = build_network(runtime, model.graph, batch, "cpu")
            found[f"{name}, {runtime}"] = partial(network, batch)
    return found


def serve(policy: str, runtimes: list[str]) -> None:
    """Answer what the first process asks, a job or calls of a network for so many seconds, with the load."""
    keep_freed_memory()
    with limited_threads(1 if policy == "single" else None), tempfile.TemporaryDirectory() as folder:
        verbs = verbs_in(Path(folder))
        nets = networks(runtimes) if policy in IDLE else {}
        for call in (*verbs.values(), *nets.values()):
            call()
        for name, seconds in questions():
            found: list[float] = []
            start, meter = perf_counter(), Meter()
            while not found or perf_counter() - start < seconds:
                if name in verbs:
                    found.append(verbs[name]())
                else:
                    begun = perf_counter()
                    nets[name]()
                    found.append(1e3 * (perf_counter() - begun))
            reply([float(np.median(found)), meter.lap().others])


# --- In the process that asks ---


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that are busy, on whatever CPU the system gives them."""
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        sleep(SETTLING * bool(count))
        yield


def measure(others: dict[str, Other], args: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second by job, neighbours and policy, and the load beside them."""
    cells = [f"{job} {count} {policy}" for job in args.jobs for count in NEIGHBOURS for policy in POLICIES]
    found: dict[str, list[float]] = {cell: [] for cell in cells}
    loads: dict[str, list[float | None]] = {cell: [] for cell in cells}
    for _, cell in turns(cells, args.rounds, args.at_most, "neighbours"):
        job, count, policy = cell.split()
        with neighbours(int(count)):
            speed, load = others[policy].ask([job, args.seconds])
        found[cell].append(speed)
        loads[cell].append(load)
    return {cell: summary(found[cell]) | {"load": loads[cell]} for cell in cells}


def idle_cost(others: dict[str, Other], args: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds a call without neighbours, and how they compare with those of `awake`."""
    table = {}
    for name in (f"{network}, {runtime}" for network in NETWORKS for runtime in args.runtimes):
        ms: dict[str, list[float]] = {policy: [] for policy in IDLE}
        for _, policy in turns(list(ms), args.idle_rounds, args.at_most, name):
            ms[policy].append(others[policy].ask([name, args.seconds / 4])[0])
        table[name] = {
            policy: summary(own) | {"ratio": ratio(own, ms["awake"])} for policy, own in ms.items()
        }
    return table


def shares(speeds: dict[str, Any], jobs: Sequence[str]) -> dict[str, Any]:
    """By job and policy, what neighbours leave of the speed of `awake` alone, and of the fair share."""
    cpus, table = usable_cpus(), {}
    for job in jobs:
        alone = speeds[f"{job} 0 awake"]["median"]
        for policy in POLICIES:
            for count in NEIGHBOURS:
                share = speeds[f"{job} {count} {policy}"]["median"] / alone
                fair = cpus / (cpus + count)
                table[f"{job} {count} {policy}"] = {"share": share, "fair": fair, "of_fair": share / fair}
    return table


def markdown(result: dict[str, Any], jobs: Sequence[str]) -> str:
    """Both tables, as the README beside this file has them."""
    lines = [
        "| | policy | alone | 1 neighbour | 2 neighbours | of the fair share, 1 and 2 |",
        "|-|-|-:|-:|-:|-:|",
    ]
    for job in jobs:
        for policy in POLICIES:
            cells = [f"{job} {count} {policy}" for count in NEIGHBOURS]
            speed = " | ".join(f"{result['pictures_per_second'][cell]['median']:.1f}" for cell in cells)
            fair = ", ".join(f"{result['shares'][cell]['of_fair']:.2f}" for cell in cells[1:])
            lines.append(f"| {job} | {policy} | {speed} | {fair} |")
    lines += ["", "| network | awake ms | brief / awake [95 %] | asleep / awake [95 %] |", "|-|-:|-:|-:|"]
    for name, row in result["idle_cost"].items():
        ratios = []
        for policy in IDLE[1:]:
            found = row[policy]["ratio"]
            low, high = found["low"], found["high"]
            ratios.append(f"{found['median']:.2f}" + ("" if low is None else f" [{low:.2f}, {high:.2f}]"))
        lines.append(f"| {name} | {row['awake']['median']:.2f} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-rounds", type=int, default=8)
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="of each job in a round, at least one part"
    )
    parser.add_argument(
        "--at-most", type=float, default=420.0, help="seconds for all rounds, if three are made"
    )
    parser.add_argument("--runtimes", default="eager,compile", help="of the networks")
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--serve", choices=POLICIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.runtimes, args.jobs = args.runtimes.split(","), args.jobs.split(",")
    return args


def main() -> None:
    """Measure and print."""
    args = parse()
    if args.serve:
        serve(args.serve, args.runtimes)
        return
    load = os.getloadavg()
    with ExitStack() as stack:
        command = [__file__, "--runtimes", ",".join(args.runtimes), "--serve"]
        others = {
            policy: stack.enter_context(Other([*command, policy], {"TQDM_DISABLE": "1", **environment}))
            for policy, environment in POLICIES.items()
        }
        speeds = measure(others, args)
        result = {
            "pictures_per_second": speeds,
            "shares": shares(speeds, args.jobs),
            "idle_cost": idle_cost(others, args),
            "seconds": args.seconds,
            "environment": ran_with("cpu", load),
        }
    print(markdown(result, args.jobs), file=sys.stderr)
    print(to_json(result))


if __name__ == "__main__":
    sys.exit(run_safely(main))
