"""What a server counts, for Prometheus and for the protocol's statistics."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from ebjr_det.serving.desk import Answered

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Meters:
    """Counters, histograms and gauges of one server, prefix `ebjr_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ebjr_requests", "Requests by status of HTTP.", ["status"], registry=self.registry
        )
        self.pictures = Counter(
            "ebjr_pictures",
            "Answered pictures by who answered and why not the teacher.",
            ["answered_by", "degraded"],
            registry=self.registry,
        )
        self.shed = Counter("ebjr_shed", "Refused requests by reason.", ["reason"], registry=self.registry)
        self.reloads = Counter("ebjr_reloads", "Reloads by result.", ["result"], registry=self.registry)
        self.request_seconds = Histogram(
            "ebjr_request_seconds", "From arrival to answer.", buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "ebjr_stage_seconds", "By stage.", ["stage"], buckets=SECONDS, registry=self.registry
        )
        self.tally: Tally[str] = Tally()

    def gauge(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A number that is asked for when it is looked at."""
        Gauge(f"ebjr_{name}", meaning, registry=self.registry).set_function(value)

    def by_decile(self, name: str, meaning: str, value: Callable[[int], float]) -> None:
        """Ten such numbers, one for each decile of the deferral score at the router's fit."""
        gauge = Gauge(f"ebjr_{name}", meaning, ["decile"], registry=self.registry)
        for decile in range(10):
            gauge.labels(str(decile)).set_function(partial(value, decile))

    def answered(self, answer: "Answered") -> None:
        """Count the pictures of an answer, and its stages."""
        for side, reason in zip(answer.answered_by, answer.degraded, strict=True):
            self.pictures.labels(side, reason).inc()
        for stage, seconds in answer.seconds.items():
            self.stages.labels(stage).observe(seconds)
            self.tally[f"{stage}_ns"] += int(seconds * 1e9)
        self.tally["pictures"] += len(answer.degraded)
        self.tally["deferred"] += sum(side == "teacher" for side in answer.answered_by)
        self.tally["success"] += 1
        self.tally["last_ms"] = time_ns() // 1_000_000
        self.tally["success_ns"] += int(answer.total * 1e9)

    def ended(self, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(str(status)).inc()
        self.request_seconds.observe(seconds)
        self.tally["fail" if status >= 400 else "answered"] += 1

    def share(self) -> float:
        """The share of pictures that the teacher has answered since the start."""
        return self.tally["deferred"] / max(self.tally["pictures"], 1)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)

    def statistics(self, names: Sequence[str], sizes: Mapping[int, tuple[int, float]]) -> dict[str, object]:
        """The protocol's statistics extension; nanoseconds. Sides of the pair have its counts.

        Args:
            sizes: of the student's batches, in order: how many, and seconds.
        """
        tally = self.tally

        def entry(count: str, *stages: str) -> dict[str, int]:
            return {"count": tally[count], "ns": sum(tally[f"{stage}_ns"] for stage in stages)}

        stats = {
            "success": entry("success", "success"),
            "fail": entry("fail"),
            "queue": entry("success", "student_wait", "teacher_wait"),
            "compute_input": entry("success", "read"),
            "compute_infer": entry("success", "student", "teacher"),
            "compute_output": entry("success"),
        }
        model = {
            "version": "1",
            "last_inference": tally["last_ms"],
            "inference_count": tally["pictures"],
            "execution_count": sum(count for count, _ in sizes.values()),
            "inference_stats": stats,
            "batch_stats": [
                {"batch_size": size, "compute_infer": {"count": count, "ns": int(seconds * 1e9)}}
                for size, (count, seconds) in sizes.items()
            ],
        }
        return {"model_stats": [{"name": name} | model for name in names]}
