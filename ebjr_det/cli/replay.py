"""`ebjr-det replay TASK`: one command a task, the same analysis for all."""

from pathlib import Path
from typing import Any

import rich_click as click

from ebjr_det.cli.options import (
    AS_JSON,
    MACS,
    PATH,
    REFERENCES,
    VERBOSE,
    Decorator,
    Group,
    bootstrap,
    numbers,
    seed,
    together,
)
from ebjr_det.cli.printing import show


@click.group(cls=Group)
def replay() -> None:
    """The whole analysis from saved outputs of any two models; no model is run."""


def _analysis(replicates: int) -> Decorator:
    """The options that every replay has, whatever its files."""
    return together(
        click.option("--score", help="Deferral score; by default the router's, else free_energy."),
        click.option("--router", type=PATH, help="A router that fit-router made on other pictures."),
        click.option("--top-k", type=int, default=10, show_default=True, help="Boxes that are scored."),
        click.option("--aggregate", default="mean", show_default=True, help="Of their scores: mean, sum ..."),
        click.option("--popular", metavar="A,B,...|FILE", help="Classes of a specialised student."),
        click.option(
            "--other-logit/--no-other-logit", default=True, help="Whether scores see its logit of other."
        ),
        click.option("--threshold", type=float, help="Defer where score > threshold."),
        click.option("--rates", metavar="R,R,...", help="Deferral rates to print; the first is chosen."),
        MACS,
        click.option("--student-ms", type=float, help="Latency that you measured, ms an image."),
        click.option("--teacher-ms", type=float, help="Latency that you measured, ms an image."),
        REFERENCES,
        seed("Of the bootstrap."),
        bootstrap(replicates),
        click.option("--out", type=PATH, required=True, help="Run folder."),
        VERBOSE,
        AS_JSON,
    )


LENIENT = click.option(
    "--lenient", is_flag=True, help="Leave out detections of images that the ground truth lacks."
)
CLASSIFIERS = together(
    click.option("--student-logits", type=PATH, required=True, help=".npy, or .npz with key `logits`."),
    click.option("--teacher-logits", type=PATH, required=True, help=".npy, or .npz with key `logits`."),
    click.option("--labels", type=PATH, required=True, help=".npy, or .npz with key `labels`."),
)
DETECTORS = together(
    click.option("--annotations", type=PATH, required=True, help="COCO ground truth, .json or .json.gz."),
    click.option("--student", type=PATH, required=True, help="COCO results, .json or .json.gz."),
    click.option("--teacher", type=PATH, required=True, help="COCO results, .json or .json.gz."),
)


@replay.command("classification")
@CLASSIFIERS
@_analysis(replicates=1000)
def replay_classification(student_logits: Path, teacher_logits: Path, labels: Path, **analysis: Any) -> None:
    """Two classifiers' logits and the labels."""
    files = {"student": student_logits, "teacher": teacher_logits, "labels": labels}
    _replay("classification", files, **analysis)


@replay.command("detection")
@DETECTORS
@click.option("--other-at", type=float, help="Score of a box of other that hands a picture on.")
@LENIENT
@_analysis(replicates=200)
def replay_detection(annotations: Path, student: Path, teacher: Path, **analysis: Any) -> None:
    """Two detectors' result files and the ground truth."""
    files = {"student": student, "teacher": teacher, "annotations": annotations}
    _replay("detection", files, **analysis)


def _replay(
    task: str,
    files: dict[str, Path],
    *,
    rates: str | None,
    student_macs: float | None,
    teacher_macs: float | None,
    student_ms: float | None,
    teacher_ms: float | None,
    references: tuple[str, ...],
    popular: str | None,
    bootstrap: int,
    out: Path,
    verbose: bool,
    as_json: bool,
    **how: Any,
) -> None:
    from ebjr_det import api
    from ebjr_det.api.references import ReferenceFile
    from ebjr_det.core.cost import CostModel
    from ebjr_det.evaluation.traffic.stated import load_classes

    result = api.replay(
        task,
        files,
        out,
        rates=None if rates is None else numbers(rates),
        cost=CostModel(student_macs, teacher_macs, student_ms, teacher_ms),
        popular=None if popular is None else load_classes(popular),
        references=[ReferenceFile.parse(text) for text in references],
        replicates=bootstrap,
        **how,
    )
    show(result, as_json=as_json, verbose=verbose)
