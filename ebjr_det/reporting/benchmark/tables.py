"""Tables and sentences of a benchmark: scenarios, stages, and how far the times can be trusted."""

from typing import Any

from ebjr_det.evaluation.benchmark.ratios import Ratio
from ebjr_det.evaluation.benchmark.result import STAGES, Benchmark
from ebjr_det.evaluation.benchmark.scenarios import QUANTILES
from ebjr_det.reporting.benchmark.against import Against, interval_cell
from ebjr_det.reporting.notation import NONE, milliseconds, number, percent, share
from ebjr_det.reporting.table import Table


def benchmark_tables(result: Benchmark, summary: dict[str, Any], against: Against | None) -> list[Table]:
    """All tables in reading order."""
    found = [single_table(result, summary), offline_table(result, summary), joining_table(result, summary)]
    found += [server_table(result, summary)]
    found += [stages_table(result, index) for index in range(len(result.stages))]
    return [*found, *([] if against is None else [against.table()])]


def verdict(result: Benchmark, summary: dict[str, Any]) -> str:
    """One sentence: the pair against its teacher, one image after the other."""
    rows = summary["single_stream"]
    faster = {name: rows["teacher"]["mean_ms"] / rows[name]["mean_ms"] for name in result.points}
    parts = [
        f"{ratio:.2f} x as fast with {percent(rows[name]['deferral_rate'])} deferred"
        for name, ratio in faster.items()
    ]
    noisy = "NOISY, not to be trusted: " if result.noise() else ""
    return f"{noisy}Beside its teacher, one image after the other, the pair is {', '.join(parts)}."


def sentences(result: Benchmark, against: Against | None) -> list[str]:
    """Whether the machine was quiet, which times belong together, and what differs from earlier."""
    noise = result.noise()
    drift, spread = result.single["student"].drift, result.spread
    seen = f"the student's p90 is {spread:.2f} x its p50, its median moved by {100 * drift:+.1f} %"
    quiet = f"Noisy: {'; '.join(noise)}." if noise else f"No sign of noise: {seen} between the halves."
    if beside := result.machine.beside:
        most = max(beside.values(), key=lambda load: -1.0 if load.others is None else load.others)
        quiet += f" Measured {most.in_words}" + " at most" * (most.others is not None) + "."
    unsplit = [side for side, model in result.models.items() if not model.split]
    together = [
        f"The {side}'s network and post-processing are timed together, as network." for side in unsplit
    ]
    return [quiet, *together, *([] if against is None else against.sentences())]


def single_table(result: Benchmark, summary: dict[str, Any]) -> Table:
    """One image at a time."""
    rows = []
    for name, row in summary["single_stream"].items():
        times = [milliseconds(row[key]) for key in ("mean_ms", *(f"p{q}_ms" for q in QUANTILES))]
        rows.append([name, *times, number(row["images_per_s"], digits=1), _share(row)])
    columns = ["subject", "ms mean", *(f"p{q}" for q in QUANTILES), "images/s", "deferred %"]
    models = ", ".join(f"{side} {model.name} on {model.runtime}" for side, model in result.models.items())
    caption = f"{models}; {result.device}, {result.machine.cpus} CPUs; preprocessing is in, decoding is not"
    title = f"Single stream: one image after the other, of {len(result.image_ids):,}"
    return Table(title, columns, rows, caption)


def offline_table(result: Benchmark, summary: dict[str, Any]) -> Table:
    """All images known at the start."""
    columns, rows = ["subject"], [[name] for name in result.subjects]
    for lot in summary["offline"]:
        columns += [f"images/s at batch {lot['batch_size']}", "deferred %"]
        for row, numbers in zip(rows, lot["subjects"].values(), strict=True):
            row += [number(numbers["images_per_s"], digits=1), _share(numbers)]
    counts = [next(iter(lot.calls.values())).images for lot in result.offline]
    caption = f"images a query: {', '.join(f'{count:,}' for count in counts)}"
    return Table("Offline: throughput", columns, rows, caption)


def joining_table(result: Benchmark, summary: dict[str, Any]) -> Table:
    """What the pair costs beyond its parts."""
    lots = {"single stream": summary["single_stream"]}
    lots |= {f"offline, batch {lot['batch_size']}": lot["subjects"] for lot in summary["offline"]}
    rows = []
    for where, lot in lots.items():
        for name in result.points:
            ratio = Ratio(**lot[name]["over_student_plus_p_teacher"])
            cells = [number(ratio.value, digits=3), interval_cell(ratio)]
            rows.append([f"{name}, {where}", _share(lot[name]), *cells])
    columns = ["subject and scenario", "deferred % (p)", "ratio", "95 % interval"]
    caption = (
        "mean times, p: the share that these calls deferred; 1 where joining costs nothing. In batches the "
        "teacher gets smaller ones from the pair than alone, which is part of the cost"
    )
    return Table("Joining: joint / (student + p x teacher)", columns, rows, caption)


def server_table(result: Benchmark, summary: dict[str, Any]) -> Table:
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
    how = "given" if result.server.given else "0.7 of what the pair does in single stream"
    bound = "given" if result.server.bound_given else "3 x the teacher's p50 in single stream"
    caption = (
        f"{served['requests']:,} requests, {served['arrival_rate']:.4g} a second ({how}), answered up to "
        f"{served['batch_size']} at once; bound {served['latency_bound_ms']:.4g} ms ({bound}); a latency "
        f"counts from the arrival, {NONE}: too slow for this load, not answered by twice the time"
    )
    heads = ["subject", "in time %", *(f"p{q} ms" for q in QUANTILES), "answered %", "images a call"]
    return Table("Server: requests at random times", [*heads, "deferred %"], rows, caption)


def stages_table(result: Benchmark, index: int) -> Table:
    """Where the time of an image goes."""
    lot = result.stages[index]
    rows = []
    for name in result.subjects:
        means = lot.means(name)
        total = sum(means.values())
        cells = [
            f"{means[stage]:.3f} ({100 * means[stage] / max(total, 1e-12):.0f} %)" if stage in means else NONE
            for stage in STAGES
        ]
        rows.append([name, *cells, number(total, digits=3)])
    caption = "routing: score, decision and putting the answers together; decoding: from the file to pixels"
    title = f"Stages at batch {lot.batch_size}: mean ms an image"
    return Table(title, ["subject", *STAGES, "sum"], rows, caption)


def markdown(result: Benchmark, summary: dict[str, Any], against: Against | None) -> str:
    """Tables and sentences as one document."""
    lines = [f"# {result.title}", ""]
    for table in benchmark_tables(result, summary, against):
        lines += [f"## {table.title}", "", table.markdown(), ""]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in sentences(result, against)), ""])


def _share(row: dict[str, Any]) -> str:
    return share(row.get("deferral_rate"))
