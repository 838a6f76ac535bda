"""Tables and sentences of a benchmark: scenarios, stages, and how far the times can be trusted."""

from ebjr_det.evaluation.benchmark.against import Against
from ebjr_det.evaluation.benchmark.ratios import Ratio
from ebjr_det.evaluation.benchmark.result import STAGES, Benchmark, StageTimes, Summary
from ebjr_det.evaluation.benchmark.scenarios import QUANTILES
from ebjr_det.io.joules import UNCOUNTED
from ebjr_det.reporting.notation import NONE, milliseconds, number, percent, share
from ebjr_det.reporting.table import Table


def benchmark_tables(result: Benchmark, summary: Summary, against: Against | None) -> list[Table]:
    """All tables in reading order."""
    single, *comparison = short_tables(result, summary, against)
    tables = [single, _offline_table(result, summary), _joining_table(result, summary)]
    tables += [_server_table(result, summary), *(_stages_table(result, times) for times in result.stages)]
    return [*tables, *comparison]


def short_tables(result: Benchmark, summary: Summary, against: Against | None) -> list[Table]:
    """The tables that a reader needs first."""
    return [_single_table(result, summary), *([] if against is None else [_against_table(against)])]


def verdict(result: Benchmark, summary: Summary) -> str:
    """One sentence: the pair against its teacher, one image after the other."""
    rows = summary["single_stream"]
    parts = [
        f"{rows['teacher']['mean_ms'] / rows[name]['mean_ms']:.2f} x as fast with "
        f"{percent(rows[name]['deferral_rate'])} deferred"
        for name in result.points
    ]
    noisy = "NOISY, not to be trusted: " if result.noise() else ""
    return f"{noisy}Beside its teacher, one image after the other, the pair is {', '.join(parts)}."


def sentences(result: Benchmark, against: Against | None) -> list[str]:
    """Whether the machine was quiet, which times belong together, and what differs from earlier."""
    noise, drift = result.noise(), result.single["student"].drift
    steady = f"the student's p90 is {result.spread:.2f} x its p50, its median moved by {100 * drift:+.1f} %"
    trust = f"Noisy: {'; '.join(noise)}." if noise else f"No sign of noise: {steady} between the halves."
    if beside := result.machine.beside:
        largest = max(beside.values(), key=lambda load: -1.0 if load.others is None else load.others)
        trust += f" Measured {largest.in_words}" + " at most" * (largest.others is not None) + "."
    unsplit = [side for side, model in result.models.items() if not model.split]
    together = "network and post-processing are timed together, as network."
    lines = [trust, *(f"The {side}'s {together}" for side in unsplit)]
    lines += [] if result.joules else [UNCOUNTED]
    if against is not None:
        lines += [f"Differs from the earlier benchmark: {difference}." for difference in against.differences]
        lines += [f"Noisy {reason}." for reason in against.noise]
    return lines


def _single_table(result: Benchmark, summary: Summary) -> Table:
    """One image at a time."""
    rows = []
    for name, row in summary["single_stream"].items():
        times = [milliseconds(row[key]) for key in ("mean_ms", *(f"p{q}_ms" for q in QUANTILES))]
        rows.append([name, *times, number(row["images_per_s"], digits=1), *_joules(row), _deferred(row)])
    energy = _joules(summary["single_stream"]["student"]) and ["J/image"]
    columns = ["subject", "ms mean", *(f"p{q}" for q in QUANTILES), "images/s", *energy, "deferred %"]
    models = ", ".join(f"{side} {model.name} on {model.runtime}" for side, model in result.models.items())
    caption = f"{models}; {result.device}, {result.machine.cpus} CPUs; preprocessing is in, decoding is not"
    title = f"Single stream: one image after the other, of {len(result.image_ids):,}"
    return Table(title, columns, rows, caption)


def _offline_table(result: Benchmark, summary: Summary) -> Table:
    """All images known at the start."""
    columns, rows = ["subject"], [[name] for name in result.subjects]
    for size in summary["offline"]:
        energy = _joules(size["subjects"]["student"]) and ["J/image"]
        columns += [f"images/s at batch {size['batch_size']}", *energy, "deferred %"]
        for row, numbers in zip(rows, size["subjects"].values(), strict=True):
            row += [number(numbers["images_per_s"], digits=1), *_joules(numbers), _deferred(numbers)]
    counts = [next(iter(queries.calls.values())).images for queries in result.offline]
    caption = f"images a query: {', '.join(f'{count:,}' for count in counts)}"
    return Table("Offline: throughput", columns, rows, caption)


def _joining_table(result: Benchmark, summary: Summary) -> Table:
    """What the pair costs beyond its parts."""
    loops = {"single stream": summary["single_stream"]}
    loops |= {f"offline, batch {size['batch_size']}": size["subjects"] for size in summary["offline"]}
    rows = []
    for scenario, subjects in loops.items():
        for name in result.points:
            ratio = Ratio(**subjects[name]["over_student_plus_p_teacher"])
            cells = [number(ratio.value, digits=3), _interval(ratio)]
            rows.append([f"{name}, {scenario}", _deferred(subjects[name]), *cells])
    columns = ["subject and scenario", "deferred % (p)", "ratio", "95 % interval"]
    caption = (
        "mean times, p: the share that these calls deferred; 1 where joining costs nothing. In batches the "
        "teacher gets smaller ones from the pair than alone, which is part of the cost"
    )
    return Table("Joining: joint / (student + p x teacher)", columns, rows, caption)


def _server_table(result: Benchmark, summary: Summary) -> Table:
    """Requests at random times."""
    served = summary["server"]
    rows = [
        [
            name,
            share(row["inside_bound"]),
            *(milliseconds(row[f"p{q}_ms"]) for q in QUANTILES),
            share(row["answered"]),
            number(row["images_per_call"]),
            share(row["deferral_rate"]),
        ]
        for name, row in served["subjects"].items()
    ]
    rate = "given" if result.server.given else "0.7 of what the pair does in single stream"
    bound = "given" if result.server.bound_given else "3 x the teacher's p50 in single stream"
    caption = (
        f"{served['requests']:,} requests, {served['arrival_rate']:.4g} a second ({rate}), answered up to "
        f"{served['batch_size']} at once; bound {served['latency_bound_ms']:.4g} ms ({bound}); a latency "
        f"counts from the arrival, {NONE}: too slow for this load, not answered by twice the time"
    )
    heads = ["subject", "in time %", *(f"p{q} ms" for q in QUANTILES), "answered %", "images a call"]
    return Table("Server: requests at random times", [*heads, "deferred %"], rows, caption)


def _stages_table(result: Benchmark, times: StageTimes) -> Table:
    """Where the time of an image goes."""
    rows = []
    for name in result.subjects:
        means = times.means(name)
        total = sum(means.values())
        cells = [
            f"{means[stage]:.3f} ({100 * means[stage] / max(total, 1e-12):.0f} %)" if stage in means else NONE
            for stage in STAGES
        ]
        rows.append([name, *cells, number(total, digits=3)])
    caption = "routing: score, decision and putting the answers together; decoding: from the file to pixels"
    title = f"Stages at batch {times.batch_size}: mean ms an image"
    return Table(title, ["subject", *STAGES, "sum"], rows, caption)


def _against_table(against: Against) -> Table:
    """Speedups over an earlier benchmark, one row a subject and scenario."""
    rows = [
        [
            f"{row.scenario}, batch {row.batch_size}: {row.subject}",
            row.statistic,
            number(row.speedup.value, digits=3),
            _interval(row.speedup),
            row.speedup.verdict() + " (noisy)" * bool(against.noise),
        ]
        for row in against.rows
    ]
    caption = (
        "above 1 is faster now; intervals resample the calls of each measurement in blocks and do not "
        "know that the machine itself may have had another speed then; of the pair the mean is compared: "
        "its median does not see a teacher that answers fewer than half"
    )
    columns = ["scenario and subject", "of the", "speedup (old/new)", "95 % interval", "verdict"]
    return Table("Against the earlier benchmark", columns, rows, caption)


def _joules(row: Summary) -> list[str]:
    """A cell, where the device told its energy."""
    return [number(row["joules_per_image"], digits=3)] if "joules_per_image" in row else []


def _deferred(row: Summary) -> str:
    return share(row.get("deferral_rate"))


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return "-"
    return f"[{ratio.low:.3f}, {ratio.high:.3f}]"
