"""`ebjr-det replay TASK`: one command a task, the same analysis for all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from ebjr_det.cli import options
from ebjr_det.cli.options import PATH
from ebjr_det.cli.printing import infeasible_as_json, show
from ebjr_det.cli.task_commands import task_group

if TYPE_CHECKING:
    from ebjr_det.api.saved_outputs import SavedOutputs
    from ebjr_det.api.tiers import TieredOutputs
    from ebjr_det.config.target import Target, TargetKind
    from ebjr_det.tasks.contract import TaskPlugin

TARGETS: "dict[str, TargetKind]" = {"macs": "macs", "latency_ms": "latency_ms", "quality": "min_quality"}


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
        click.option(
            "--target",
            "targets",
            multiple=True,
            metavar="KIND=VALUE",
            help="Of tiers: the thresholds for at most so many macs or latency_ms, or at least this quality.",
        ),
        click.option(
            "--fraction", type=float, help="Of tiers: share of the pictures that choose, by default 0.5."
        ),
        options.seed("Of the bootstrap."),
        options.bootstrap(task.bootstrap),
        click.option("--images", type=PATH, help="Folder with the pictures, some of which the report shows."),
        click.option("--out", type=PATH, required=True, help="Run folder."),
        options.VERBOSE,
        options.AS_JSON,
    )


@task_group("replay", _analysis, lambda inputs: f"{inputs[:1].upper()}{inputs[1:]}.", tiers=True)
def replay(outputs: "SavedOutputs | TieredOutputs", **values: Any) -> None:
    """The whole analysis from saved outputs of any two or more models; no model is run."""
    from ebjr_det.api.tiers import TieredOutputs
    from ebjr_det.core.errors import ConfigError

    targets, fraction = values.pop("targets"), values.pop("fraction")
    if len(targets) > 1:
        raise ConfigError(f"Expected one --target, got {' and '.join(targets)}. Give one a call.")
    target = next(iter(targets), None)
    if isinstance(outputs, TieredOutputs):
        _replay_tiers(outputs, target, fraction, **values)
        return
    for flag, value in (("--target", target), ("--fraction", fraction)):
        if value is not None:
            raise ConfigError(
                f"Expected {flag} beside --tier, got it without. Of a pair: ebjr-det calibrate."
            )
    _replay_pair(outputs, **values)


def _replay_tiers(
    outputs: "TieredOutputs",
    target: str | None,
    fraction: float | None,
    *,
    score: str | None,
    bootstrap: int,
    seed: int,
    out: Path,
    verbose: bool,
    as_json: bool,
    other_logit: bool,
    **of_pairs: Any,
) -> None:
    """Several tiers; options of a student and a teacher are refused."""
    import ebjr_det
    from ebjr_det.core.errors import ConfigError

    of_pairs["no-other-logit"] = None if other_logit else True
    for name, value in of_pairs.items():
        if value not in (None, ()):
            flag = {"file": "--router", "references": "--reference"}.get(name, f"--{name.replace('_', '-')}")
            raise ConfigError(
                f"Expected no {flag} beside --tier, got one: it is for a student and a teacher."
            )
    settings = ebjr_det.TierSettings(
        score=score or "auto",
        target=None if target is None else _target(target),
        fraction=0.5 if fraction is None else fraction,
        seed=seed,
        replicates=bootstrap,
    )
    with infeasible_as_json(as_json):
        result = ebjr_det.replay(outputs, out, settings)
    show(result, as_json=as_json, verbose=verbose)


def _target(text: str) -> "Target":
    """A target as `KIND=VALUE`."""
    from ebjr_det.config.target import Target
    from ebjr_det.core.errors import ConfigError

    kind, _, value = text.partition("=")
    try:
        return Target(TARGETS[kind], float(value))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"Expected --target as {', '.join(TARGETS)} with `=` and a number, got `{text}`."
        ) from error


def _replay_pair(
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
