"""`ebjr-det replay TASK`: one command a task, the same analysis for all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import show
from ebjr_det.cli.task_commands import task_group

if TYPE_CHECKING:
    from ebjr_det.api.saved_outputs import SavedOutputs
    from ebjr_det.tasks.contract import TaskPlugin


def _analysis(task: "TaskPlugin") -> options.Decorator:
    """The options that every replay has, whatever its files."""
    return options.together(
        options.name_option(
            "--score", of="deciding_scores", task=task.name, help="What decides; auto, the default, chooses."
        ),
        click.option("--router", "file", type=PATH, help="A router that fit-router made on other pictures."),
        click.option("--top-k", type=int, help="Boxes that are scored, if not as the score itself says."),
        options.name_option("--aggregate", of="aggregates", help="Of their scores, likewise."),
        click.option("--popular", metavar="A,B,...|FILE", help="Classes of a specialised student."),
        click.option(
            "--other-logit/--no-other-logit", default=True, help="Whether scores see its logit of other."
        ),
        click.option("--threshold", type=float, help="Defer where score > threshold."),
        click.option("--rates", metavar="R,R,...", help="Deferral rates to print; the first is chosen."),
        click.option("--student-name", metavar="WORDS", help="What reports call it; by default as its file."),
        click.option("--teacher-name", metavar="WORDS", help="What reports call it; by default as its file."),
        options.MACS,
        click.option("--student-ms", type=float, help="Latency that you measured, ms an image."),
        click.option("--teacher-ms", type=float, help="Latency that you measured, ms an image."),
        options.REFERENCES,
        options.seed("Of the bootstrap."),
        options.bootstrap(task.bootstrap),
        click.option("--images", type=PATH, help="Folder with the pictures, some of which the report shows."),
        click.option("--out", type=PATH, required=True, help="Run folder."),
        options.VERBOSE,
        options.AS_JSON,
    )


@task_group("replay", _analysis, lambda inputs: f"{inputs[:1].upper()}{inputs[1:]}.")
def replay(
    outputs: "SavedOutputs",
    *,
    rates: str | None,
    student_macs: float | None,
    teacher_macs: float | None,
    student_ms: float | None,
    teacher_ms: float | None,
    student_name: str | None,
    teacher_name: str | None,
    popular: str | None,
    threshold: float | None,
    images: Path | None,
    bootstrap: int,
    seed: int,
    out: Path,
    verbose: bool,
    as_json: bool,
    **router: Any,
) -> None:
    """The whole analysis from saved outputs of any two models; no model is run."""
    import ebjr_det
    from ebjr_det.config import RouterSection, load_classes, parse_section
    from ebjr_det.core.cost import CostModel

    router["file"] = None if router["file"] is None else str(router["file"])
    router = {name: value for name, value in router.items() if value is not None}
    settings = ebjr_det.ReplaySettings(
        router=parse_section(RouterSection, router),
        popular=None if popular is None else load_classes(popular),
        threshold=threshold,
        rates=None if rates is None else options.numbers(rates, float),
        cost=CostModel(student_macs, teacher_macs, student_ms, teacher_ms),
        seed=seed,
        replicates=bootstrap,
        names=(student_name, teacher_name),
        images=images,
    )
    show(ebjr_det.replay(outputs, out, settings), as_json=as_json, verbose=verbose)
