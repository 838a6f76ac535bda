"""The figure of a training: loss and validation AP against the pictures seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.style

from ebjr_det.reporting.style import BLUE, GREY, STYLE, VERMILLION, new_figure, save_figure


def write_training_figure(
    stem: Path, rows: Sequence[Mapping[str, float]], *, title: str, quality: str
) -> list[Path]:
    """The log of a training as PNG and SVG; returns their paths, none where nothing was logged.

    Args:
        rows: with `pictures`, `loss`, and where it was judged `quality`.
    """
    seen = [row["pictures"] / 1000 for row in rows]
    with matplotlib.style.context(["default", STYLE]):
        figure, axes = new_figure(title, 3.2)
        axes.plot(seen, [row["loss"] for row in rows], color=GREY, lw=1.4, marker="o", ms=3)
        axes.set(xlabel="pictures seen (thousands)", ylabel="training loss", ylim=(0, None))
        if all(quality in row for row in rows):
            right = axes.twinx()
            right.plot(seen, [row[quality] for row in rows], color=BLUE, lw=2.2, marker="o", ms=4)
            right.set_ylabel(f"validation {quality} of the averaged weights", color=BLUE)
            right.set(ylim=(0, 1))
            right.grid(visible=False)
            right.spines["right"].set_visible(True)
            best = max(rows, key=lambda row: row[quality])
            right.axhline(best[quality], color=VERMILLION, lw=0.8, ls=(0, (4, 3)))
        return save_figure(figure, stem, title)
