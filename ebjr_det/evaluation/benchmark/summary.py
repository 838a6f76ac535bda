"""The numbers of a benchmark, without the calls behind them: the one JSON object of the command line."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ebjr_det.evaluation.benchmark.ratios import Ratio, joint_ratio
from ebjr_det.evaluation.benchmark.result import SIDES, Benchmark, Summary
from ebjr_det.evaluation.benchmark.scenarios import QUANTILES, Calls


def summarize(result: Benchmark) -> Summary:
    """The one JSON object of the command line: numbers without the calls behind them."""
    machine, noise = result.machine, result.noise()
    return {
        "title": result.title,
        "device": result.device,
        "score": result.score,
        "models": {side: asdict(model) for side, model in result.models.items()},
        "points": {name: point.to_dict() for name, point in result.points.items()},
        "images": len(result.image_ids),
        "single_stream": _closed(result, 1, result.single),
        "offline": [
            {"batch_size": queries.batch_size, "subjects": _closed(result, queries.batch_size, queries.calls)}
            for queries in result.offline
        ],
        "server": _served(result),
        "stages_ms": [
            {
                "batch_size": times.batch_size,
                "subjects": {name: times.means(name) for name in result.subjects},
            }
            for times in result.stages
        ],
        "noise": {
            "noisy": bool(noise),
            "why": noise,
            "cpus": machine.cpus,
            "load_average": [list(load) for load in machine.load],
            "beside": {name: load.to_dict() for name, load in machine.beside.items()},
            "student_p90_over_p50": result.spread,
            "student_drift": result.single["student"].drift,
            "gpu": list(machine.gpu),
        },
    }


def _closed(result: Benchmark, size: int, calls: Mapping[str, Calls]) -> Summary:
    student, teacher = (calls[side] for side in SIDES)
    ratios = {name: joint_ratio(student, teacher, calls[name], seed=result.seed) for name in result.points}
    rows = {name: closed_numbers(calls[name], ratios.get(name)) for name in result.subjects}
    for windows in result.joules:
        for name, row in rows.items() if windows.batch_size == size else ():
            row["joules_per_image"] = windows.median(name)
    return rows


def _served(result: Benchmark) -> Summary:
    server, subjects = result.server, Summary()
    for name in result.subjects:
        requests = server.requests[name]
        subjects[name] = {
            "inside_bound": requests.inside(server.bound_ms),
            **{f"p{q}_ms": requests.quantile(q) for q in QUANTILES},
            "answered": len(requests.answered) / len(requests.latency_ms),
            "images_per_call": float(np.mean(requests.batches)) if requests.batches else None,
            "deferral_rate": requests.deferral_rate if name in result.points else None,
        }
    return {
        "arrival_rate": server.rate,
        "latency_bound_ms": server.bound_ms,
        "batch_size": server.batch_size,
        "requests": len(server.arrivals_s),
        "subjects": subjects,
    }


def closed_numbers(calls: Calls, ratio: Ratio | None) -> Summary:
    """Numbers of a closed loop; of a joint subject also what it defers and what joining costs."""
    quantiles = np.percentile(calls.per_image, QUANTILES)
    numbers: Summary = {"queries": len(calls.ms), "images_per_query": calls.images}
    numbers |= {"images_per_s": calls.throughput, "mean_ms": calls.mean}
    numbers |= {f"p{q}_ms": float(ms) for q, ms in zip(QUANTILES, quantiles, strict=True)}
    if ratio is not None:
        numbers |= {"deferral_rate": calls.deferral_rate, "over_student_plus_p_teacher": asdict(ratio)}
    return numbers
