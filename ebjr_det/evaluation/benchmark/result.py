"""How fast a pair was: everything that was measured, read and written as one file, and its summary."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from ebjr_det.core.errors import EbjrError, InvalidInput, first_line
from ebjr_det.core.types import FloatArray
from ebjr_det.evaluation.benchmark.scenarios import Calls, Requests
from ebjr_det.io.files import existing_file
from ebjr_det.io.load import Load
from ebjr_det.io.third_party import first_fault

RESULT = "benchmark.json"
KIND = "ebjr-det benchmark 1"
SIDES = ("student", "teacher")
DECODE, PREPROCESS, POST_PROCESSING, ROUTING = "decode", "preprocess", "post-processing", "routing"
STAGES = (DECODE, PREPROCESS, "student network", "teacher network", POST_PROCESSING, ROUTING)
SINGLE_STREAM, OFFLINE, SERVER = "single stream", "offline", "server latency"
BUSY, DRIFT = 0.5, 0.1
"""From which load average a CPU, where no load of others is known, and from which change of the student's
median a measurement is called noisy; see also `load.NOISY`."""
Summary = dict[str, Any]


@dataclass(frozen=True)
class UsedModel:
    """One model: its name, what runs its network, and whether its network was timed apart from the rest."""

    name: str
    runtime: str
    split: bool


@dataclass(frozen=True)
class Point:
    """A threshold of the pair, and the deferral rate for which it was chosen, if it was."""

    threshold: float
    rate: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Plain values; JSON has no infinity: an end threshold is None, and the rate tells which end."""
        return {"threshold": self.threshold if abs(self.threshold) < np.inf else None, "rate": self.rate}


@dataclass(frozen=True)
class OfflineQueries:
    """Queries of many images, answered in batches of one size."""

    batch_size: int
    calls: Mapping[str, Calls]


@dataclass(frozen=True)
class StageTimes:
    """ms of every stage in each call, of batches of one size."""

    batch_size: int
    ms: Mapping[str, Mapping[str, tuple[float, ...]]]

    def means(self, subject: str) -> dict[str, float]:
        """Mean ms an image by stage, in the order of `STAGES`."""
        columns = self.ms[subject]
        present = [stage for stage in STAGES if columns.get(stage)]
        return {stage: float(np.mean(columns[stage])) / self.batch_size for stage in present}


@dataclass(frozen=True)
class JouleWindows:
    """Joules that the device took an image, window by window, in batches of one size; its idle draw is in."""

    batch_size: int
    per_image: Mapping[str, tuple[float, ...]]

    def median(self, subject: str) -> float:
        """The median of a subject's windows."""
        return float(np.median(self.per_image[subject]))


@dataclass(frozen=True)
class ServerLoad:
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
        joules: by batch size, where the device tells them.

    Raises:
        InvalidInput: subjects that differ between scenarios, or too few.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", ser_json_inf_nan="strings")

    title: str
    score: str
    models: Mapping[str, UsedModel]
    points: Mapping[str, Point]
    image_ids: tuple[str, ...]
    seed: int
    seconds: float
    single: Mapping[str, Calls]
    offline: tuple[OfflineQueries, ...]
    server: ServerLoad
    stages: tuple[StageTimes, ...]
    machine: Machine
    environment: Mapping[str, object]
    config: Mapping[str, object]
    joules: tuple[JouleWindows, ...] = ()

    def __post_init__(self) -> None:
        if set(self.models) != set(SIDES) or not self.points or not self.image_ids:
            raise InvalidInput("Expected a student, a teacher, a joint subject and images.")
        scenarios = [*self.loops.values(), self.server.requests, *(times.ms for times in self.stages)]
        scenarios += [windows.per_image for windows in self.joules]
        if not self.offline or not self.stages or any(set(each) != set(self.subjects) for each in scenarios):
            raise InvalidInput("Expected the same subjects in all scenarios.")
        sizes = [*(size for _, size in self.loops), *(times.batch_size for times in self.stages)]
        if not self.server.rate > 0 or min(sizes) < 1:
            raise InvalidInput("Expected an arrival rate above 0 and batches of at least 1.")

    @property
    def subjects(self) -> list[str]:
        """Student, teacher, then the pair at its thresholds."""
        return [*SIDES, *self.points]

    @property
    def loops(self) -> dict[tuple[str, int], Mapping[str, Calls]]:
        """Every closed loop by scenario and batch size: each subject's calls."""
        return {(SINGLE_STREAM, 1): self.single} | {
            (OFFLINE, queries.batch_size): queries.calls for queries in self.offline
        }

    @property
    def times(self) -> dict[tuple[str, int, str], FloatArray]:
        """The long table by scenario, batch size and subject: ms an image, call by call.

        A server's are latencies, and only those of a subject that answered every request.
        """
        table = {
            (*loop, subject): calls[subject].per_image
            for loop, calls in self.loops.items()
            for subject in self.subjects
        }
        served = {subject: self.server.requests[subject] for subject in self.subjects}
        return table | {
            (SERVER, self.server.batch_size, subject): requests.answered
            for subject, requests in served.items()
            if None not in requests.latency_ms
        }

    @property
    def device(self) -> str:
        """The product's name."""
        return str(self.environment.get("device", ""))

    def noise(self) -> list[str]:
        """In words, what makes these times doubtful; empty where nothing does."""
        beside, cpus = self.machine.beside, self.machine.cpus
        reasons = [f"{name} was measured {load.in_words}" for name, load in beside.items() if load.noisy]
        average = self.machine.load[0][0]
        if all(load.others is None for load in beside.values()) and average / max(cpus, 1) > BUSY:
            reasons.append(f"the load average was {average:.2f} on {cpus} CPUs before the start")
        drift = self.single["student"].drift
        if abs(drift) > DRIFT:
            reasons.append(f"the student's median changed by {100 * drift:+.0f} % between the halves")
        return reasons

    @property
    def spread(self) -> float:
        """The student's p90 over its p50, in single stream."""
        times = self.single["student"].per_image
        return float(np.percentile(times, 90) / max(float(np.median(times)), 1e-12))

    def to_json(self, summary: Summary) -> str:
        """The file: what it is, its summary, and every call; times are kept to seven digits."""
        times = _ADAPTER.dump_json(self, include={"single", "offline", "server", "stages"})
        measured = json.loads(_ADAPTER.dump_json(self))
        measured |= json.loads(times, parse_float=lambda text: float(f"{float(text):.7g}"))
        return json.dumps({"kind": KIND, "summary": summary, "measured": measured}, allow_nan=False)

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
