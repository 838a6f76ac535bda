"""A measurement against an earlier one of the same subjects: speedups with intervals, and what differs."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from ebjr_det.core.errors import InvalidInput
from ebjr_det.evaluation.benchmark.ratios import Ratio, Statistic, speedup
from ebjr_det.evaluation.benchmark.result import SERVER, SIDES, Benchmark, Point, Summary, UsedModel

SAME_SHARE = 0.01
"""By how much deferral rates may differ unnamed: the last round ends anywhere in the sample."""


@dataclass(frozen=True)
class Speedup:
    """One subject in one scenario: old time over new time."""

    scenario: str
    batch_size: int
    subject: str
    statistic: Statistic
    speedup: Ratio

    def to_dict(self) -> Summary:
        """A JSON object of plain values."""
        row = asdict(self)
        ratio = row.pop("speedup")
        return {**row, "speedup_old_over_new": ratio, "verdict": self.speedup.verdict()}


@dataclass(frozen=True)
class Against:
    """All speedups, what else differs between both measurements, and why either is noisy."""

    rows: list[Speedup]
    differences: list[str]
    noise: list[str]

    @classmethod
    def of(cls, new: Benchmark, old: Benchmark) -> "Against":
        """Compare two benchmarks of the same subjects; see `check_subjects`."""
        check_subjects(old, new.models, new.points)
        results = {"now": new, "then": old}
        noise = [f"{name}: {reason}" for name, result in results.items() for reason in result.noise()]
        return cls(list(_speedups(new, old)), list(_differences(new, old)), noise)

    def to_dict(self) -> Summary:
        """A JSON object of plain values."""
        rows = [row.to_dict() for row in self.rows]
        return {"noisy": bool(self.noise), "rows": rows, "differences": self.differences, "noise": self.noise}


def check_subjects(old: Benchmark, models: Mapping[str, UsedModel], points: Mapping[str, Point]) -> None:
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


def _speedups(new: Benchmark, old: Benchmark) -> Iterator[Speedup]:
    earlier = old.times
    for (scenario, size, subject), times in new.times.items():
        if (scenario, size, subject) not in earlier or (scenario == SERVER and not _same_load(new, old)):
            continue
        # The median of a pair does not see a teacher that answers fewer than half.
        statistic: Statistic = "median" if subject in SIDES else "mean"
        ratio = speedup(earlier[scenario, size, subject], times, statistic, seed=new.seed)
        yield Speedup(scenario, size, subject, statistic, ratio)


def _same_load(new: Benchmark, old: Benchmark) -> bool:
    return (new.server.rate, new.server.batch_size) == (old.server.rate, old.server.batch_size)


def _differences(new: Benchmark, old: Benchmark) -> Iterator[str]:
    """In words, whatever is not the same in both; the subjects are."""
    yield from _differences_of_machines(new, old)
    for side in SIDES:
        yield from _changed(f"the {side}'s runtime", new.models[side].runtime, old.models[side].runtime)
    yield from _changed("images", len(new.image_ids), len(old.image_ids))
    if len(new.image_ids) == len(old.image_ids) and set(new.image_ids) != set(old.image_ids):
        yield "other images"
    yield from _changed("score", new.score, old.score)
    for name in new.points:
        share, earlier_share = (result.single[name].deferral_rate for result in (new, old))
        if abs(share - earlier_share) > SAME_SHARE:
            label = f"deferred by {name} in single stream"
            yield from _changed(label, f"{100 * share:.1f} %", f"{100 * earlier_share:.1f} %")
    queries, earlier = (
        {each.batch_size: next(iter(each.calls.values())).images for each in result.offline}
        for result in (new, old)
    )
    yield from _changed("batch sizes", ", ".join(map(str, queries)), ", ".join(map(str, earlier)))
    for size in [size for size in queries if size in earlier]:
        yield from _changed(f"images an offline query in batches of {size}", queries[size], earlier[size])
    if not _same_load(new, old):
        servers = (new.server, old.server)
        load, earlier_load = (f"{server.rate:.4g}/s up to {server.batch_size}" for server in servers)
        yield f"server load {earlier_load} then, {load} now, so its latencies are not compared"
    bound, earlier_bound = (f"{result.server.bound_ms:.4g} ms" for result in (new, old))
    yield from _changed("latency bound", bound, earlier_bound)


def _differences_of_machines(new: Benchmark, old: Benchmark) -> Iterator[str]:
    yield from _changed("device", new.device, old.device)
    yield from _changed("CPUs", new.machine.cpus, old.machine.cpus)
    for key in ("torch_threads", "ebjr_det", "git_revision"):
        yield from _changed(key.replace("_", " "), new.environment.get(key), old.environment.get(key))
    versions, earlier = (result.environment.get("versions") for result in (new, old))
    if isinstance(versions, Mapping) and isinstance(earlier, Mapping):
        for name in sorted({*versions, *earlier}):
            yield from _changed(name, versions.get(name), earlier.get(name))


def _changed(label: str, value: object, earlier: object) -> Iterator[str]:
    if value != earlier:
        yield f"{label} {earlier} then, {value} now"
