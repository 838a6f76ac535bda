"""The histogram figure: how a deferral score parts the images that need the teacher from the others."""

from pathlib import Path
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.types import FloatArray
from ebjr_det.reporting.style import (
    BLUE,
    INK,
    STYLE,
    VERMILLION,
    Label,
    new_figure,
    place_labels,
    save_figure,
)


class Groups(NamedTuple):
    """The images that need the teacher, [images], and the words for these and for the others."""

    needy: NDArray[np.bool_]
    need: str
    other: str


def write_histogram_figure(
    stem: Path,
    values: FloatArray,
    groups: Groups,
    threshold: float,
    *,
    score: str,
    formula: str,
    title: str,
    handed_on: NDArray[np.bool_] | None = None,
) -> list[Path]:
    """Deferral scores of the images that need the teacher, and of the others.

    Each group's bars add up to 100 % of that group, so that a few such images show as well as many others;
    the counts stand beside. Where one bar would hide the rest the axis is a square root.
    Returns the paths of the PNG and the SVG.

    Args:
        stem: the files' path without `.png` and `.svg`; its folder exists.
        values: [images] deferral scores; an infinite one counts in the outermost bin on its side.
        groups: which images need the teacher.
        threshold: scores strictly above it go to the teacher; outside all bins it is told in words.
        score, formula: what `values` are; both name the x axis.
        handed_on: [images] which a specialised student hands on, far above the others: they are told in words
            and not drawn, unless there are no others.

    Raises:
        InvalidInput: no images, a NaN, or lengths that differ.
    """
    if not len(values) or values.shape != groups.needy.shape or np.isnan([*values, threshold]).any():
        raise InvalidInput(
            "Expected `values` and `groups` of one length above 0, and no NaN, got shapes "
            f"{list(values.shape)} and {list(groups.needy.shape)}, threshold {threshold}."
        )
    defer = values > threshold
    apart = np.zeros(len(values), dtype=bool) if handed_on is None or handed_on.all() else handed_on
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure(title, 3.8)
        axes.set_xlabel(f"{score} = {formula}   (higher: more doubt)")
        labels = _draw_groups(axes, values[~apart], groups._replace(needy=groups.needy[~apart]))
        low, high = axes.get_xlim()
        text = f"threshold {threshold:.4g}".replace("-", "\u2212").replace("inf", "\u221e")
        if low < threshold < high:
            axes.axvspan(threshold, high, color=VERMILLION, alpha=0.06, lw=0, zorder=0)
            axes.axvline(threshold, color=INK, lw=1.2, zorder=5)
        else:
            place = "goes to the teacher" if defer.all() else "stays with the student"
            text += ", out of sight" if 0 < defer.sum() < len(defer) else f": every image {place}"
            if apart.any() and defer.any() and not (defer & ~apart).any():
                text = "threshold above all of these"
        x = np.full(12, threshold if low < threshold < high else (low + high) / 2)
        labels.insert(0, Label(text, np.column_stack([x, np.linspace(0.95, 0.6, 12) * axes.get_ylim()[1]])))
        for words, part, end, side in (
            ("\u2190 stays with the student{}", ~defer, 0, "left"),
            ("sent to the teacher{} \u2192", defer, 1, "right"),
        ):
            other = (part & apart).sum()
            words = words.format(f", {other:,} of them as other, not drawn" if other else "")
            words += f"\n{_images(part)} ({100 * part.mean():.1f} %)"
            words += f", {groups.need} on {(part & groups.needy).sum():,}" if part.any() else ""
            axes.text(end, 1.02, words, ha=side, va="bottom", transform=axes.transAxes, linespacing=1.4)
        place_labels(figure, axes, labels)
        return save_figure(figure, stem, title)


def _images(part: NDArray[np.bool_]) -> str:
    return "1 image" if part.sum() == 1 else f"{part.sum():,} images"


def _draw_groups(axes: Axes, values: FloatArray, groups: Groups) -> list[Label]:
    """Histograms of both groups on shared bins; sets the limits."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if high - low <= 1e-9 * abs(high):
        low, high = low - 0.5 * max(1.0, abs(low)), low + 0.5 * max(1.0, abs(low))
    edges, peak, labels = np.linspace(low, high, 51), 0.0, []
    for part, color, words in ((~groups.needy, BLUE, groups.other), (groups.needy, VERMILLION, groups.need)):
        # Negated, because a bin must hold its right end: a score at the threshold is the student's.
        counts = np.histogram(-np.clip(values[part], low, high), -edges[::-1])[0][::-1]
        if counts.any():
            share = 100 * counts / counts.sum()
            axes.stairs(share, edges, fill=True, color=color, alpha=0.25, lw=0, zorder=2)
            axes.stairs(np.where(counts, share, np.nan), edges, color=color, lw=1.3, zorder=3)
            tall, peak = np.argsort(-share, kind="stable")[:12], max(peak, share.max())
            at = np.column_stack([(edges[tall] + edges[tall + 1]) / 2, share[tall]])[counts[tall] > 0]
            labels.append(Label(f"{words}\n{_images(part)}", at, color, "bold"))
    axes.set_ylabel("% of the group, per bin")
    if peak > 40:
        axes.set_yscale("function", functions=(lambda v: np.sqrt(np.maximum(v, 0)), np.square))
        axes.set_ylabel("% of the group, per bin (square-root scale)")
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set(xlim=(low - 0.01 * (high - low), high + 0.01 * (high - low)), ylim=(0, 1.25 * peak))
    return labels
