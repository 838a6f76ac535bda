"""How fast a pair was: everything that was measured, read and written as one file, and its summary."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.core.errors import EbjrError, InvalidInput, first_line
from ebjr_det.evaluation.benchmark.ratios import Ratio, joint_ratio
from ebjr_det.evaluation.benchmark.scenarios import QUANTILES, Calls, Requests
from ebjr_det.io.files import existing_file
from ebjr_det.io.load import Load
from ebjr_det.io.third_party import first_fault

RESULT = "benchmark.json"
KIND = "ebjr-det benchmark 1"
SIDES = ("student", "teacher")
STAGES = ("decode", "preprocess", "student network", "teacher network", "post-processing", "routing")
BUSY, DRIFT = 0.5, 0.1
"""From which load average a CPU, where no load of others is known, and from which change of the student's
median a measurement is called noisy; see also `load.NOISY`."""


@dataclass(frozen=True)
class Used:
    """One model: its name, what runs its network, and whether its network was timed apart from the rest."""

    name: str
    runtime: str
    split: bool


@dataclass(frozen=True)
class Point:
    """A threshold of the pair, and the deferral rate for which it was chosen, if it was."""

    threshold: float
    rate: float | None = None


@dataclass(frozen=True)
class Offline:
    """Queries of many images, answered in batches of one size."""

    batch_size: int
    calls: Mapping[str, Calls]


@dataclass(frozen=True)
class Staged:
    """ms of every stage in each call, of batches of one size."""

    batch_size: int
    ms: Mapping[str, Mapping[str, tuple[float, ...]]]

    def means(self, subject: str) -> dict[str, float]:
        """Mean ms an image by stage, in the order of `STAGES`."""
        found = self.ms[subject]
        return {
            stage: float(np.mean(found[stage])) / self.batch_size
            for stage in STAGES
            if stage in found and len(found[stage])
        }


@dataclass(frozen=True)
class Served:
    """Requests at the same times to every subject.

    Attributes:
        rate: requests a second; `given`: by the user, else it follows from the pair's own speed.
        bound_ms: latency that counts as in time; `bound_given` as above.
    """

    rate: float
    given: bool
    bound_ms: float
    bound_given: bool
    batch_size: int
    arrivals_s: tuple[float, ...]
    requests: Mapping[str, Requests]


@dataclass(frozen=True)
class Machine:
    """What else the machine did.

    Attributes:
        load: load averages, `gpu`: clocks and power of a GPU, before and after.
        beside: the load of other processes in each scenario; benchmarks of earlier versions have none.
    """

    cpus: int
    load: tuple[tuple[float, float, float], tuple[float, float, float]]
    gpu: tuple[Mapping[str, str] | None, Mapping[str, str] | None] = (None, None)
    beside: Mapping[str, Load] = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """One measurement of a pair on one machine.

    Attributes:
        models: by `student` and `teacher`; `points`: by the name of each joint subject.
        single: single stream by subject.
        environment, config: as beside every result.

    Raises:
        InvalidInput: subjects that differ between scenarios, or too few.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    title: str
    score: str
    models: Mapping[str, Used]
    points: Mapping[str, Point]
    image_ids: tuple[str, ...]
    seed: int
    seconds: float
    single: Mapping[str, Calls]
    offline: tuple[Offline, ...]
    server: Served
    stages: tuple[Staged, ...]
    machine: Machine
    environment: Mapping[str, Any]
    config: Mapping[str, Any]

    def __post_init__(self) -> None:
        lots: list[Mapping[str, Any]] = [self.single, self.server.requests]
        lots += [one.calls for one in self.offline] + [one.ms for one in self.stages]
        sizes = [one.batch_size for one in self.offline] + [one.batch_size for one in self.stages]
        if set(self.models) != set(SIDES) or not self.points or not self.image_ids:
            raise InvalidInput("Expected a student, a teacher, a joint subject and images.")
        if not self.offline or not self.stages or any(set(lot) != set(self.subjects) for lot in lots):
            raise InvalidInput("Expected the same subjects in all scenarios.")
        if not self.server.rate > 0 or min(sizes) < 1:
            raise InvalidInput("Expected an arrival rate above 0 and batches of at least 1.")

    @property
    def subjects(self) -> list[str]:
        """Student, teacher, then the pair at its thresholds."""
        return [*SIDES, *self.points]

    @property
    def device(self) -> str:
        """The product's name."""
        return str(self.environment.get("device", ""))

    def noise(self) -> list[str]:
        """In words, what makes these times doubtful; empty where nothing does."""
        beside, cpus = self.machine.beside, self.machine.cpus
        found = [f"{name} was measured {load.in_words}" for name, load in beside.items() if load.noisy]
        average = self.machine.load[0][0]
        if all(load.others is None for load in beside.values()) and average / max(cpus, 1) > BUSY:
            found.append(f"the load average was {average:.2f} on {cpus} CPUs before the start")
        drift = self.single["student"].drift
        if abs(drift) > DRIFT:
            found.append(f"the student's median changed by {100 * drift:+.0f} % between the halves")
        return found

    @property
    def spread(self) -> float:
        """The student's p90 over its p50, in single stream."""
        times = self.single["student"].per_image
        return float(np.percentile(times, 90) / max(float(np.median(times)), 1e-12))

    def ratios(self, calls: Mapping[str, Calls]) -> dict[str, Ratio]:
        """What joining costs in one closed loop, by joint subject: see `joint_ratio`."""
        student, teacher = (calls[side] for side in SIDES)
        return {name: joint_ratio(student, teacher, calls[name], seed=self.seed) for name in self.points}

    def summary(self) -> dict[str, Any]:
        """The one JSON object of the command line: numbers without the calls behind them."""
        return {
            "title": self.title,
            "device": self.device,
            "score": self.score,
            "models": {side: model.__dict__ for side, model in self.models.items()},
            "points": {
                name: {"threshold": _finite(point.threshold), "rate": point.rate}
                for name, point in self.points.items()
            },
            "images": len(self.image_ids),
            "single_stream": self._closed(self.single),
            "offline": [
                {"batch_size": lot.batch_size, "subjects": self._closed(lot.calls)} for lot in self.offline
            ],
            "server": self._served(),
            "stages_ms": [
                {"batch_size": lot.batch_size, "subjects": {name: lot.means(name) for name in self.subjects}}
                for lot in self.stages
            ],
            "noise": {
                "noisy": bool(self.noise()),
                "why": self.noise(),
                "cpus": self.machine.cpus,
                "load_average": [list(load) for load in self.machine.load],
                "beside": {name: load.to_dict() for name, load in self.machine.beside.items()},
                "student_p90_over_p50": self.spread,
                "student_drift": self.single["student"].drift,
                "gpu": list(self.machine.gpu),
            },
        }

    def _closed(self, calls: Mapping[str, Calls]) -> dict[str, Any]:
        ratios = self.ratios(calls)
        return {name: closed_numbers(calls[name], ratios.get(name)) for name in self.subjects}

    def _served(self) -> dict[str, Any]:
        served = self.server
        subjects = {
            name: {
                "inside_bound": requests.inside(served.bound_ms),
                **{f"p{q}_ms": requests.quantile(q) for q in QUANTILES},
                "answered": len(requests.answered) / len(requests.latency_ms),
                "images_per_call": float(np.mean(requests.batches)) if requests.batches else None,
                "deferral_rate": requests.deferral_rate if name in self.points else None,
            }
            for name, requests in ((name, served.requests[name]) for name in self.subjects)
        }
        return {
            "arrival_rate": served.rate,
            "latency_bound_ms": served.bound_ms,
            "batch_size": served.batch_size,
            "requests": len(served.arrivals_s),
            "subjects": subjects,
        }

    def to_json(self, summary: Mapping[str, Any]) -> str:
        """The file: what it is, its summary, and every call; times are kept to seven digits."""
        whole = json.loads(_ADAPTER.dump_json(self))
        for key in ("single", "offline", "server", "stages"):
            whole[key] = _shortened(whole[key])
        return json.dumps({"kind": KIND, "summary": summary, "measured": whole}, allow_nan=False)

    @classmethod
    def load(cls, path: Path) -> "Benchmark":
        """What `to_json` wrote, from the file or the folder that holds it.

        Raises:
            InvalidInput: no such file, or another content; in one line.
        """
        file = existing_file(path / RESULT if os.path.isdir(path) else path, "a benchmark")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict) or content.get("kind") != KIND:
                raise InvalidInput(f"no file of kind `{KIND}`")
            return _ADAPTER.validate_python(content.get("measured"))
        except ValidationError as error:
            raise InvalidInput(
                f"Expected a whole benchmark in `{file}`, got {first_fault(error)}."
            ) from error
        except (EbjrError, ValueError, RecursionError) as error:
            raise InvalidInput(f"Expected a benchmark in `{file}`, got: {first_line(error)}.") from error


_ADAPTER = TypeAdapter(Benchmark)


def closed_numbers(calls: Calls, ratio: Ratio | None) -> dict[str, Any]:
    """Numbers of a closed loop; of a joint subject also what it defers and what joining costs."""
    quantiles = np.percentile(calls.per_image, QUANTILES)
    found: dict[str, Any] = {"queries": len(calls.ms), "images_per_query": calls.images}
    found |= {"images_per_s": calls.throughput, "mean_ms": calls.mean}
    found |= {f"p{q}_ms": float(ms) for q, ms in zip(QUANTILES, quantiles, strict=True)}
    if ratio is not None:
        found |= {"deferral_rate": calls.deferral_rate, "over_student_plus_p_teacher": ratio.__dict__}
    return found


def _finite(value: float) -> float | None:
    """JSON has no infinity: an end threshold is None there, and the deferral rate tells which end."""
    return value if abs(value) < float("inf") else None


def _shortened(content: Any) -> Any:
    if isinstance(content, float):
        return float(f"{content:.7g}")
    if isinstance(content, Mapping):
        return {key: _shortened(value) for key, value in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [_shortened(value) for value in content]
    return content
