"""The figure of a training: loss and validation AP against the pictures seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ebjr_det.reporting.style import BLUE, GREY, VERMILLION, draw_figure, figure_paths


def write_training_figure(
    stem: Path, rows: Sequence[Mapping[str, float]], *, title: str, quality: str
) -> list[Path]:
    """The log of a training as PNG and SVG; returns their paths, none where nothing was logged.

    Args:
        rows: with `pictures`, `loss`, and where it was judged `quality`.
    """
    pictures = [row["pictures"] / 1000 for row in rows]
    with draw_figure(stem, title, 3.2) as (_, axes):
        axes.plot(pictures, [row["loss"] for row in rows], color=GREY, lw=1.4, marker="o", ms=3)
        axes.set(xlabel="pictures seen (thousands)", ylabel="training loss", ylim=(0, None))
        if all(quality in row for row in rows):
            right = axes.twinx()
            right.plot(pictures, [row[quality] for row in rows], color=BLUE, lw=2.2, marker="o", ms=4)
            right.set_ylabel(f"validation {quality} of the averaged weights", color=BLUE)
            right.set(ylim=(0, 1))
            right.grid(visible=False)
            right.spines["right"].set_visible(True)
            right.axhline(max(row[quality] for row in rows), color=VERMILLION, lw=0.8, ls=(0, (4, 3)))
    return figure_paths(stem)
