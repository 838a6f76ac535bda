"""A measurement against an earlier one of the same subjects: speedups with intervals, and what differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebjr_det.core.errors import InvalidInput
from ebjr_det.evaluation.benchmark.ratios import Ratio, Statistic, speedup
from ebjr_det.evaluation.benchmark.result import SIDES, Benchmark, Point, Used
from ebjr_det.evaluation.benchmark.scenarios import Calls, Requests
from ebjr_det.reporting.notation import number
from ebjr_det.reporting.table import Table

SAME_SHARE = 0.01
"""By how much deferral rates may differ unnamed: the last round ends anywhere in the sample."""


@dataclass(frozen=True)
class Faster:
    """One subject in one scenario: old time over new time."""

    scenario: str
    batch_size: int
    subject: str
    statistic: Statistic
    speedup: Ratio

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        own = {key: getattr(self, key) for key in ("scenario", "batch_size", "subject", "statistic")}
        return own | {"speedup_old_over_new": self.speedup.__dict__, "verdict": self.speedup.verdict()}


@dataclass(frozen=True)
class Against:
    """All speedups, what else differs between both measurements, and why either is noisy."""

    rows: Sequence[Faster]
    differences: Sequence[str]
    noise: Sequence[str]

    @classmethod
    def of(cls, new: Benchmark, old: Benchmark) -> "Against":
        """Both must be of the same subjects; see `check_subjects`."""
        check_subjects(old, new.models, new.points)
        noise = [f"{name}: {why}" for name, one in (("now", new), ("then", old)) for why in one.noise()]
        return cls(list(_rows(new, old)), list(_differences(new, old)), noise)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "noisy": bool(self.noise),
            "rows": [row.to_dict() for row in self.rows],
            "differences": list(self.differences),
            "noise": list(self.noise),
        }

    def table(self) -> Table:
        """One row a subject and scenario."""
        rows = [
            [
                f"{row.scenario}, batch {row.batch_size}: {row.subject}",
                row.statistic,
                number(row.speedup.value, digits=3),
                interval_cell(row.speedup),
                row.speedup.verdict() + " (noisy)" * bool(self.noise),
            ]
            for row in self.rows
        ]
        caption = (
            "above 1 is faster now; intervals resample the calls of each measurement in blocks and do not "
            "know that the machine itself may have had another speed then; of the pair the mean is compared: "
            "its median does not see a teacher that answers fewer than half"
        )
        columns = ["scenario and subject", "of the", "speedup (old/new)", "95 % interval", "verdict"]
        return Table("Against the earlier benchmark", columns, rows, caption)

    def sentences(self) -> list[str]:
        """What differs, and the noise."""
        found = [f"Differs from the earlier benchmark: {what}." for what in self.differences]
        return [*found, *(f"Noisy {why}." for why in self.noise)]


def interval_cell(ratio: Ratio) -> str:
    """Both ends, three decimals."""
    if ratio.low is None or ratio.high is None:
        return "-"
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"


def check_subjects(old: Benchmark, models: Mapping[str, Used], points: Mapping[str, Point]) -> None:
    """Raises InvalidInput where an earlier benchmark is of other models or of the pair at other points."""
    for side in SIDES:
        if old.models[side].name != models[side].name:
            raise InvalidInput(
                f"Expected an earlier benchmark of {side} `{models[side].name}`, got one of "
                f"`{old.models[side].name}`."
            )
    if set(old.points) != set(points):
        raise InvalidInput(
            f"Expected an earlier benchmark of {', '.join(points)}, got one of {', '.join(old.points)}. "
            "Choose the same --rates and --threshold."
        )


def _rows(new: Benchmark, old: Benchmark) -> Iterator[Faster]:
    for name in new.subjects:
        yield _closed("single stream", 1, name, new.single[name], old.single[name], new)
    for now, then in _same_batches(new, old):
        for name in new.subjects:
            yield _closed("offline", now.batch_size, name, now.calls[name], then.calls[name], new)
    if _same_load(new, old):
        for name in new.subjects:
            times = [one.server.requests[name] for one in (old, new)]
            if all(_all_answered(requests) for requests in times):
                statistic = _statistic(name)
                ratio = speedup(times[0].answered, times[1].answered, statistic, seed=new.seed)
                yield Faster("server latency", new.server.batch_size, name, statistic, ratio)


def _statistic(name: str) -> Statistic:
    return "median" if name in SIDES else "mean"


def _closed(scenario: str, size: int, name: str, now: Calls, then: Calls, new: Benchmark) -> Faster:
    statistic = _statistic(name)
    ratio = speedup(then.per_image, now.per_image, statistic, seed=new.seed)
    return Faster(scenario, size, name, statistic, ratio)


def _same_batches(new: Benchmark, old: Benchmark) -> list[tuple[Any, Any]]:
    earlier = {lot.batch_size: lot for lot in old.offline}
    return [(lot, earlier[lot.batch_size]) for lot in new.offline if lot.batch_size in earlier]


def _all_answered(requests: Requests) -> bool:
    return None not in requests.latency_ms


def _same_load(new: Benchmark, old: Benchmark) -> bool:
    one, two = new.server, old.server
    return (one.rate, one.batch_size) == (two.rate, two.batch_size)


def _differences(new: Benchmark, old: Benchmark) -> Iterator[str]:
    def told(what: str, now: Any, then: Any) -> Iterator[str]:
        if now != then:
            yield f"{what} {then} then, {now} now"

    yield from told("device", new.device, old.device)
    yield from told("CPUs", new.machine.cpus, old.machine.cpus)
    for key in ("torch_threads", "ebjr_det", "git_revision"):
        yield from told(key.replace("_", " "), new.environment.get(key), old.environment.get(key))
    now, then = (one.environment.get("versions") for one in (new, old))
    if isinstance(now, Mapping) and isinstance(then, Mapping):
        for name in sorted({*now, *then}):
            yield from told(name, now.get(name), then.get(name))
    for side in SIDES:
        yield from told(f"the {side}'s runtime", new.models[side].runtime, old.models[side].runtime)
    yield from told("images", len(new.image_ids), len(old.image_ids))
    if len(new.image_ids) == len(old.image_ids) and set(new.image_ids) != set(old.image_ids):
        yield "other images"
    yield from told("score", new.score, old.score)
    for name in new.points:
        shares = [one.single[name].deferral_rate for one in (new, old)]
        if abs(shares[0] - shares[1]) > SAME_SHARE:
            yield from told(f"deferred by {name} in single stream", *(f"{100 * p:.1f} %" for p in shares))
    sizes = [", ".join(str(lot.batch_size) for lot in one.offline) for one in (new, old)]
    yield from told("batch sizes", *sizes)
    for one, two in _same_batches(new, old):
        counts = [next(iter(lot.calls.values())).images for lot in (one, two)]
        yield from told(f"images an offline query in batches of {one.batch_size}", *counts)
    if not _same_load(new, old):
        now, then = (f"{one.server.rate:.4g}/s up to {one.server.batch_size}" for one in (new, old))
        yield f"server load {then} then, {now} now, so its latencies are not compared"
    bounds = [f"{one.server.bound_ms:.4g} ms" for one in (new, old)]
    yield from told("latency bound", *bounds)
