"""What a verb that reports finds, and how its report takes the place of an earlier one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ebjr_det.files import write_text
from ebjr_det.reporting.folder import CONFIG, SUMMARY, to_json, write_report
from ebjr_det.reporting.report import Report
from ebjr_det.scores import SCORES


class Result(NamedTuple):
    """What a verb found: the report for people, and the JSON object for programs."""

    report: Report
    summary: dict[str, Any]


def finish(report: Report, out: Path, settings: str, environment: Mapping[str, Any]) -> Result:
    """Replace an earlier report as a whole: a summary is there only beside what it sums up."""
    (out / SUMMARY).unlink(missing_ok=True)
    write_text(out / CONFIG, settings)
    write_text(out / "environment.json", to_json(environment))
    formula = SCORES[report.curve.score].formula
    return Result(report, write_report(report, out, formula))
