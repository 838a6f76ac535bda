"""`replay`: the whole analysis from saved outputs of any two models, no model needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ebjr_det.api.references import ReferenceFile, check_costs
from ebjr_det.api.report import Result, report
from ebjr_det.config import RouterSection, parse_section
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError
from ebjr_det.core.router import decide
from ebjr_det.core.tradeoff import score_of
from ebjr_det.evaluation.analysis import Analysis, Profile, Reference
from ebjr_det.evaluation.run_folder import (
    CONFIG,
    RUN,
    check_replay_folder,
    clear_replay_folder,
    save_analysis,
)
from ebjr_det.inference.scoring import Scoring, at_rate, default_rate
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import write_text
from ebjr_det.io.records import save_run
from ebjr_det.tasks import load_task
from ebjr_det.tasks.popular import Popular


def replay(
    task: str,
    files: Mapping[str, str | Path],
    out: str | Path,
    *,
    score: str | None = None,
    router: str | Path | None = None,
    top_k: int = 10,
    aggregate: str = "mean",
    popular: Sequence[str | int] | None = None,
    other_at: float | None = None,
    other_logit: bool = True,
    threshold: float | None = None,
    rates: Sequence[float] | None = None,
    cost: CostModel | None = None,
    references: Sequence[ReferenceFile] = (),
    seed: int = 0,
    replicates: int = 1000,
    lenient: bool = False,
) -> Result:
    """The whole analysis from saved outputs of any two models, no model needed.

    The chosen point is that of `threshold`, else of the first of `rates`, else that of
    `routing.default_rate`: no label of these images chooses it, and the report says how it came about.

    Args:
        task: a registered task; `files`: what its `replay.load_pair` reads, by name.
        score, top_k, aggregate: which score decides, by default that of the router, else the paper's energy,
            and how those of an image's boxes become one.
        popular: classes that a specialised student tells apart, by name or index; its files are then of these
            and "other". other_at: see `DetectorSection`; other_logit: see `RouterSection`.
        router: a fitted one; pictures that it was fitted on are left out, and its rescaling is applied.
        cost: MACs of both models or of neither, and ms likewise.
        references: further single models that the pair is compared with; student and teacher need MACs then.
        lenient: leave out detections of images that the ground truth lacks, and say how many.

    Raises:
        EbjrError: see the task's `replay`; nothing is written then.
    """
    if threshold is not None and rates:
        raise ConfigError("Expected either a threshold or rates, got both.")
    if other_at is not None:
        _check_other_at(task, other_at, popular)
    cost = cost or CostModel()
    check_costs(cost, references)
    given = {"score": score, "file": None if router is None else str(router)}
    how = {"top_k": top_k, "aggregate": aggregate, "other_logit": other_logit} | {
        k: v for k, v in given.items() if v is not None
    }
    scoring = Scoring.load(task, parse_section(RouterSection, how))
    check_replay_folder(Path(out))
    out, paths = Path(out), {name: Path(file) for name, file in files.items()}
    files_of = load_task(task).replay
    others = {one.name: one.file for one in references}
    names = files_of.class_names(**paths)
    apart = None if popular is None else Popular.of(popular, names)
    special_names = () if apart is None else apart.names
    scoring, score = scoring.bind(names, special_names), scoring.name
    special = {"popular": popular} | ({"other_at": other_at} if other_at is not None else {})
    remarks: dict[str, Mapping[str, int]] = {}
    how = {"remarks": remarks} | ({"lenient": True} if lenient else {})
    run = files_of.load_pair(**paths, scores=scoring.scores_of_raw, others=others, **special, **how)
    run, use = scoring.of_records(run, load_task(task).judge())
    rate = rates[0] if rates else default_rate(run)
    values = score_of(run, score)
    decision = at_rate(run, score, rate) if threshold is None else decide(values, threshold)
    analysis = Analysis(
        title=f"Replay: {name_of(paths['student'])} + {name_of(paths['teacher'])}",
        score=score,
        formula=scoring.formula,
        threshold=decision.threshold,
        student=Profile("student"),
        teacher=Profile("teacher"),
        cost=cost,
        rates=tuple(rates) if rates else None,
        replicates=replicates,
        seed=seed,
        references=tuple(Reference(one.name, None, one.macs, one.latency_ms) for one in references),
        class_names=names,
        popular=special_names,
        remarks=remarks,
        router=use,
        threshold_from="rate" if threshold is None else "given",
    )
    clear_replay_folder(out)
    settings: dict[str, Any] = {
        "replay": task,
        **{k: str(v) for k, v in paths.items()},
        **scoring.section.model_dump(),
    }
    settings |= {"threshold": threshold, "rates": list(rates) if rates else None, "seed": seed}
    if popular is not None:
        settings |= special
    if references:
        settings["references"] = [one._asdict() | {"file": str(one.file)} for one in references]
    text = yaml.safe_dump(settings, sort_keys=False)
    write_text(out / CONFIG, text)
    save_run(run, out / RUN)
    save_analysis(out, analysis, text, describe_environment("cpu", seed))
    return report(out)


def _check_other_at(task: str, other_at: float, popular: Sequence[str | int] | None) -> None:
    if task != "detection" or popular is None:
        raise ConfigError(
            f"Expected --other-at beside --popular classes of a detector, got {other_at} without them."
        )
    if not 0 <= other_at <= 1:
        raise ConfigError(f"Expected --other-at in [0, 1], got {other_at}.")


def name_of(path: Path) -> str:
    """A file's name without what it ends in, safe to print."""
    stem = Path(path.name.removesuffix(".gz")).stem
    return "".join(letter if letter.isprintable() else "?" for letter in stem)
