"""`compare`: several finished runs in one table and one figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ebjr_det.core.errors import ConfigError
from ebjr_det.evaluation.run_folder import load_folder
from ebjr_det.io.files import to_json, writable_folder, write_text
from ebjr_det.reporting.comparison import ComparedRun, Comparison
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.tasks import load_task


@dataclass(frozen=True, repr=False)
class Compared(PrintedResult):
    """The comparison, and where it was written."""

    comparison: Comparison
    folder: Path

    def overview(self) -> Overview:
        """Which run is ahead, and the table of all."""
        return Overview(self.comparison.verdict(), self.comparison.summary_table(), self.folder)

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        return self.comparison.to_dict() | {"out": str(self.folder)}


def compare(run_dirs: Sequence[str | Path], out: str | Path) -> Compared:
    """Put finished runs of one task side by side, each at its own chosen point.

    Writes `comparison.md`, `.json`, `.png` and `.svg` to `out`.

    Raises:
        ConfigError: fewer than two runs, one twice, or runs of different tasks.
        InvalidInput: a folder without a whole run; nothing is written then.

    Example:
        >>> from ebjr_det import compare
        >>> result = compare(["runs/digits", "runs/energy"], "both")
        >>> (result.folder / "comparison.md").is_file()
        True
    """
    loaded = [(str(folder), *load_folder(Path(folder))) for folder in run_dirs]
    tasks = list(dict.fromkeys(run.task for _, run, _ in loaded))
    if len(tasks) > 1:
        raise ConfigError(f"Expected runs of one task, got {' and '.join(tasks)}.")
    judges = [load_task(task).judge() for task in tasks]
    comparison = Comparison(
        judges[0].quality_name if judges else "",
        [
            ComparedRun.of(name + " (estimated)" * run.estimated, run, judges[0], analysis)
            for name, run, analysis in loaded
        ],
    )
    folder = writable_folder(Path(out))
    write_text(folder / "comparison.md", comparison.markdown())
    write_text(folder / "comparison.json", to_json(comparison.to_dict()))
    comparison.write_figure(folder / "comparison")
    return Compared(comparison, folder)
