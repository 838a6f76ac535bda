"""`report`: a run's report drawn from the run's own files. `evaluate` and `replay` end here too."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ebjr_det.api.tiers import TieredResult, report_tiers
from ebjr_det.core.errors import ConfigError
from ebjr_det.evaluation.report import Report, build_report
from ebjr_det.evaluation.run_folder import RUN, SUMMARY, TIERED_RUN, TIERS, load_folder
from ebjr_det.io.files import writable_folder
from ebjr_det.reporting.answer import verdict
from ebjr_det.reporting.overview import Overview, WrittenResult
from ebjr_det.reporting.page import PAGE
from ebjr_det.reporting.tables import summary_table
from ebjr_det.reporting.write import write_report
from ebjr_det.tasks import load_task

if TYPE_CHECKING:
    from ebjr_det.evaluation.traffic.report import TrafficReport


@dataclass(frozen=True, repr=False)
class Result(WrittenResult[Report]):
    """What a verb found; `traffic` is the same under a stated mix of classes, where one was asked for."""

    traffic: "TrafficReport | None" = None

    def overview(self) -> Overview:
        """Whether the pair pays, and the table of the models."""
        return Overview(verdict(self.report), summary_table(self.report), self.folder / PAGE)

    def to_dict(self) -> dict[str, object]:
        """The one JSON object of the command line."""
        return self.summary | ({} if self.traffic is None else {"traffic": self.traffic.to_dict()})


def report(run_dir: str | Path, out: str | Path | None = None) -> Result | TieredResult:
    """Draw the whole report of a finished run anew, from its records and its analysis alone.

    Args:
        run_dir: a run folder of `evaluate` or `replay`; one of several tiers gives a `TieredResult`.
        out: another folder to write to, by default the run's own.

    Raises:
        InvalidInput: no finished run, or a damaged one; nothing is written then.

    Example:
        >>> from ebjr_det import report
        >>> report("runs/digits", "again").summary["score"]
        'max_softmax'
    """
    folder = Path(run_dir)
    target = folder if out is None else Path(out)
    if target.resolve() != folder.resolve() and any((target / name).exists() for name in (RUN, TIERED_RUN)):
        raise ConfigError(f"Expected an --out without a run, got one in `{target}`.")
    return report_tiers(folder, target) if (folder / TIERS).is_file() else report_pair(folder, target)


def report_pair(folder: Path, target: Path) -> Result:
    """The report of a finished run of a student and a teacher, drawn from `folder` to `target`."""
    run, analysis = load_folder(folder)
    built = build_report(run, load_task(run.task).judge(), analysis)
    (writable_folder(target) / SUMMARY).unlink(missing_ok=True)
    return Result(built, write_report(built, folder, target), target)
