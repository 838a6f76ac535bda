"""`ebjr-det fit-router TASK`: one command a task, and one for a finished run."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.options import (
    AS_JSON,
    MACS,
    PATH,
    REFERENCES,
    VERBOSE,
    Group,
    bootstrap,
    numbers,
    seed,
    together,
)
from ebjr_det.cli.printing import print_json, print_places
from ebjr_det.cli.replay import CLASSIFIERS, DETECTORS, LENIENT


@click.group("fit-router", cls=Group)
def fit_router() -> None:
    """Compare all deferral scores and a learned router out of fold, and save the best as one file."""


FITTING = together(
    click.option("--score", default="auto", show_default=True, help="To be saved; auto: the best."),
    click.option("--rescaling", default="auto", show_default=True, help="Of the student's scores."),
    click.option("--class-weights", type=PATH, help="YAML or JSON: class name -> weight in the metric."),
    click.option("--folds", type=int, default=5, show_default=True, help="Of the cross-validation."),
    seed("Of folds, contexts and trees."),
    bootstrap(100),
    MACS,
    click.option("--rates", metavar="R,R,...", help="Deferral rates of the report; the first is chosen."),
    click.option("--report", "report_dir", type=PATH, help="Folder for the whole out-of-fold report."),
    click.option("--out", type=PATH, required=True, help="Router file, .safetensors."),
    VERBOSE,
    AS_JSON,
)
"""The options that every fit has; references are those of result files alone, since a run keeps its own."""


@fit_router.command("classification")
@CLASSIFIERS
@REFERENCES
@FITTING
def on_classifiers(student_logits: Path, teacher_logits: Path, labels: Path, **how: Any) -> None:
    """On two classifiers' logits and the labels."""
    files = {"student": student_logits, "teacher": teacher_logits, "labels": labels}
    _fit("classification", files, **how)


@fit_router.command("detection")
@DETECTORS
@LENIENT
@REFERENCES
@FITTING
def on_detectors(annotations: Path, student: Path, teacher: Path, **how: Any) -> None:
    """On two detectors' result files and the ground truth."""
    _fit("detection", {"student": student, "teacher": teacher, "annotations": annotations}, **how)


@fit_router.command("run")
@click.argument("run_dir", metavar="RUN", type=PATH)
@FITTING
def on_run(run_dir: Path, **how: Any) -> None:
    """On the records of a finished run; RUN is its folder."""
    _fit(None, run_dir, **how)


def _fit(
    task: str | None,
    source: Any,
    *,
    class_weights: Path | None,
    bootstrap: int,
    student_macs: float | None,
    teacher_macs: float | None,
    rates: str | None,
    report_dir: Path | None,
    out: Path,
    verbose: bool,
    as_json: bool,
    references: tuple[str, ...] = (),
    **how: Any,
) -> None:
    from ebjr_det import api
    from ebjr_det.api.fit_router import FitSettings
    from ebjr_det.api.references import ReferenceFile
    from ebjr_det.config import load_weights
    from ebjr_det.core.cost import CostModel

    settings = FitSettings(
        class_weights=None if class_weights is None else load_weights(class_weights),
        replicates=bootstrap,
        cost=CostModel(student_macs, teacher_macs),
        references=tuple(map(ReferenceFile.parse, references)),
        rates=() if rates is None else tuple(numbers(rates)),
        **how,
    )
    if task is None:
        result = api.fit_router_on_run(source, out, settings, report_dir)
    else:
        result = api.fit_router(task, source, out, settings, report_dir)
    if as_json:
        print_json({**result.trial.evidence(), "router": str(result.path)})
        return
    from ebjr_det.reporting.screen import print_screen
    from ebjr_det.reporting.tables import further_tables

    trial, chosen = result.trial, result.file.header
    tables = [trial.table(), *further_tables(trial.report)] if verbose else [trial.summary_table()]
    saved = (
        f"Saved: score {chosen.score}, student's scores rescaled: {chosen.rescaling}. For other pictures, "
        "with replay, evaluate and predict: --router FILE."
    )
    places = [result.path, *([] if report_dir is None else [report_dir])]
    print_screen(trial.verdict(), tables, [*trial.sentences(), saved])
    print_places("The router", places, verbose=verbose)
