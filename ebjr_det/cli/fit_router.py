"""`ebjr-det fit-router TASK`: one command a task, one for a finished run, one for a router in front."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import print_json, print_places
from ebjr_det.cli.task_commands import task_group

if TYPE_CHECKING:
    from ebjr_det.api.saved_outputs import SavedOutputs


def fitting(task: str | None = None) -> options.Decorator:
    """The options that every fit has; references go with result files alone, since a run keeps its own."""
    return options.together(
        options.name_option(
            "--score",
            of="fitted_scores",
            task=task,
            default="auto",
            show_default=True,
            help="To be saved; auto: the best.",
        ),
        options.name_option(
            "--rescaling",
            of="rescalings",
            task=task,
            default="auto",
            show_default=True,
            help="Of the student's scores; auto: the best.",
        ),
        click.option("--class-weights", type=PATH, help="YAML or JSON: class name -> weight in the metric."),
        click.option("--folds", type=int, default=5, show_default=True, help="Of the cross-validation."),
        options.seed("Of folds, contexts and trees."),
        options.bootstrap(100),
        options.MACS,
        click.option("--rates", metavar="R,R,...", help="Deferral rates of the report; the first is chosen."),
        click.option("--report", "report_dir", type=PATH, help="Folder for the whole out-of-fold report."),
        click.option("--out", type=PATH, required=True, help="Router file, .safetensors."),
        options.VERBOSE,
        options.AS_JSON,
    )


@task_group(
    "fit-router",
    lambda task: options.together(options.REFERENCES, fitting(task.name)),
    lambda inputs: f"On {inputs}.",
)
def fit_router(
    outputs: "SavedOutputs | Path",
    class_weights: Path | None,
    bootstrap: int,
    student_macs: float | None,
    teacher_macs: float | None,
    rates: str | None,
    report_dir: Path | None,
    out: Path,
    verbose: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare all deferral scores and a learned router out of fold, and save the best as one file."""
    import ebjr_det
    from ebjr_det.config import load_weights
    from ebjr_det.core.cost import CostModel

    fitting = ebjr_det.FitSettings(
        class_weights=None if class_weights is None else load_weights(class_weights),
        replicates=bootstrap,
        cost=CostModel(student_macs, teacher_macs),
        rates=() if rates is None else tuple(options.numbers(rates, float)),
        **settings,
    )
    result = ebjr_det.fit_router(outputs, out, fitting, report_dir)
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
    print_screen(trial.verdict(), tables, [*trial.sentences(), saved])
    print_places("The router", filter(None, [result.path, report_dir]), verbose=verbose)


@fit_router.command("run")
@click.argument("run_dir", metavar="RUN", type=PATH)
@fitting()
def on_run(run_dir: Path, **values: Any) -> None:
    """On the records of a finished run; RUN is its folder."""
    fit_router.run(run_dir, **values)


@fit_router.command("front")
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.option(
    "--arch",
    metavar="TIMM_NETWORK",
    default="test_byobnet",
    show_default=True,
    help="A network of timm, with fresh weights.",
)
@click.option("--size", type=int, default=64, show_default=True, help="Side of the small copy, in pixels.")
@click.option("--epochs", type=int, default=40, show_default=True, help="Rounds over the pictures.")
@click.option(
    "--fraction",
    type=float,
    default=0.5,
    show_default=True,
    help="Of the run's pictures, to fit on; the others stay unseen, for `placement`. 1: all.",
)
@options.seed("Of that part, the weights and the order.")
@click.option("--out", type=PATH, required=True, help="Router file, .safetensors.")
@options.AS_JSON
def in_front(run_dir: Path, out: Path, as_json: bool, **settings: Any) -> None:
    """A tiny network in front of the student, on a finished run's own pictures; RUN is its folder."""
    import ebjr_det

    result = ebjr_det.fit_front(run_dir, out, ebjr_det.FrontSettings(**settings))
    if as_json:
        print_json({**result.evidence, "router": str(result.path)})
        return
    from ebjr_det.reporting.screen import print_screen

    overview = result.overview()
    print_screen(
        overview.sentence, [overview.table], ["Whether it pays: ebjr-det placement RUN --front FILE."]
    )
    print_places("The router", [result.path])
