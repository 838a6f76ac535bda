"""The figure of a benchmark: where the time of one image goes, and how many a second there are in batches."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D

from ebjr_det.evaluation.benchmark.result import DECODE, SIDES, STAGES, Benchmark
from ebjr_det.reporting.style import BLUE, GREY, INK, VERMILLION, draw_figure, figure_paths

FILL = dict(
    zip(STAGES[1:], ("#E69F00", BLUE, VERMILLION, "#009E73", "#CC79A7"), strict=True)
)  # Okabe and Ito's
SHADES = ("#9DB9CE", "#5B8FB5", "#27638F", "#123B5C", "#0A2238")


def write_benchmark_figure(stem: Path, result: Benchmark) -> list[Path]:
    """One row a subject: left the stages of an image at batch 1 with p50 and p99, right the throughput.

    Stages are means, so that they add up. Decoding, the same for all and in no latency, is named on the axis.
    Returns the paths of the PNG and the SVG.
    """
    title = result.title + " (noisy, see the table)" * bool(result.noise())
    rows = len(result.subjects)
    with draw_figure(stem, title, 1.9 + 0.42 * rows) as (figure, axes):
        axes.remove()
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.35, 1))
        _latency(left, result)
        _throughput(right, result)
        left.set_yticks(range(rows), [_label(result, name) for name in result.subjects])
        left.set_ylim(rows - 0.45, -0.55)
        for panel in (left, right):
            panel.grid(visible=False, axis="y")
            panel.tick_params(axis="y", length=0)
    return figure_paths(stem)


def _label(result: Benchmark, name: str) -> str:
    if name not in result.points:
        return name
    return f"{name}\n({100 * result.single[name].deferral_rate:.0f} % deferred)"


def _latency(axes: Axes, result: Benchmark) -> None:
    times = min(result.stages, key=lambda times: times.batch_size)
    for row, name in enumerate(result.subjects):
        start = 0.0
        for stage, ms in list(times.means(name).items())[1:]:
            axes.barh(row, ms, left=start, height=0.56, color=FILL[stage], ec="white", lw=0.5, zorder=3)
            start += ms
        p50, p99 = np.percentile(result.single[name].per_image, (50, 99))
        axes.plot([p50, p99], [row, row], color=INK, lw=1.1, zorder=5)
        axes.plot(p99, row, "|", color=INK, ms=8, mew=1.1, zorder=5)
        axes.plot(p50, row, "o", color=INK, ms=4, mec="white", mew=0.7, zorder=6)
    decoding = times.means(SIDES[0])[DECODE]
    axes.set(
        xlabel=f"ms an image at batch {times.batch_size}, decoded before ({decoding:.2g} ms)", xlim=(0, None)
    )
    present = [stage for stage in STAGES[1:] if any(stage in times.ms[name] for name in result.subjects)]
    handles: list[Line2D | BarContainer] = []
    handles += [axes.barh(0, 0, color=FILL[stage], label=f"{stage}, mean") for stage in present]
    label = "p50 to p99 in single stream"
    handles += axes.plot([], [], "o-", color=INK, ms=4, mec="white", lw=1.1, label=label)
    _legend(axes, ncols=2, handles=handles, labelspacing=0.3)


def _throughput(axes: Axes, result: Benchmark) -> None:
    sizes = len(result.offline)
    height = 0.74 / sizes
    rates = [[queries.calls[name].throughput for name in result.subjects] for queries in result.offline]
    largest = max(map(max, rates))
    for index, queries in enumerate(result.offline):
        middles = np.arange(len(result.subjects)) + height * (index - (sizes - 1) / 2)
        color, label = SHADES[min(index, len(SHADES) - 1)], f"batch {queries.batch_size}"
        axes.barh(middles, rates[index], height=0.92 * height, color=color, zorder=3, label=label)
        for y, rate in zip(middles, rates[index], strict=True):
            digits = 0 if rate >= 100 else 1
            axes.text(rate + 0.015 * largest, y, f"{rate:,.{digits}f}", va="center", fontsize=7, color=GREY)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel="images a second, offline", xlim=(0, 1.18 * largest))
    axes.locator_params(axis="x", nbins=5)
    _legend(axes, ncols=3)


def _legend(axes: Axes, **settings: object) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), frameon=False, fontsize=7, handlelength=1.2,
        columnspacing=1.2, borderaxespad=0.3, **settings,
    )  # fmt: skip
