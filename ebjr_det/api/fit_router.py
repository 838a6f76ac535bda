"""`fit-router`: every score and a learned router compared out of fold, the best one fitted and saved."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from ebjr_det.api.fit_settings import (
    DEFAULTS,
    check_places,
    check_run,
    check_settings,
    rescalings_of,
    settings_of,
)
from ebjr_det.api.fit_settings import FitSettings as FitSettings
from ebjr_det.api.references import check_costs
from ebjr_det.api.report import report as write_report_of
from ebjr_det.api.saved_outputs import SavedOutputs
from ebjr_det.api.seen import uncalibrated
from ebjr_det.api.settings import is_replay
from ebjr_det.config import Reference, RouterSection, load_score_settings
from ebjr_det.config.sections import AUTO
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import InvalidInput
from ebjr_det.core.scores import SCORES, deferral_scores
from ebjr_det.core.tradeoff import score_of
from ebjr_det.core.types import FloatArray, Output, PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis, Profile, titled
from ebjr_det.evaluation.report import build_report
from ebjr_det.evaluation.router_comparison import RouterComparison, compare_routers
from ebjr_det.evaluation.run_folder import CONFIG, RUN, clear_replay_folder, load_folder, save_analysis
from ebjr_det.inference.rates import at_rate, default_rate
from ebjr_det.inference.scoring import Scoring
from ebjr_det.inference.student import WEIGHTS
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import writable_folder, write_text
from ebjr_det.io.memory import name_of
from ebjr_det.io.notes import say
from ebjr_det.io.records import load_run, save_run
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.reporting.routers import RouterTrial, settings_text
from ebjr_det.routing.crossfit import FittedRouter, cross_fit, folds
from ebjr_det.routing.file import RouterFile, RouterHeader
from ebjr_det.tasks import load_task
from ebjr_det.tasks.contract import Remarks


@dataclass(frozen=True, repr=False)
class FittedResult(PrintedResult):
    """What was tried, and the file."""

    trial: RouterTrial
    file: RouterFile
    path: Path

    def overview(self) -> Overview:
        """What the saved score is worth, and the ranked table."""
        return Overview(self.trial.verdict(), self.trial.summary_table(), self.path)


@dataclass(frozen=True)
class FitSource:
    """Records to fit on, and names; that of the student only where it tells one student from another.

    `section` tells how logits became scores; its options are those of the score `decided`; `saved`: what of
    saved outputs is told among the settings.
    """

    run: PairedRun
    class_names: tuple[str, ...]
    classes: int
    student: str
    teacher: str
    title: str
    section: RouterSection
    decided: str = ""
    references: tuple[Reference, ...] = ()
    popular: tuple[str, ...] = ()
    remarks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    student_weights: str = ""
    saved: Mapping[str, object] = field(default_factory=lambda: {"references": (), "lenient": False})


def fit_router(
    outputs: SavedOutputs | str | Path,
    out: str | Path,
    settings: FitSettings = DEFAULTS,
    report_dir: str | Path | None = None,
) -> FittedResult:
    """Compare all scores and a learned router out of fold, and save the best as one file.

    Args:
        outputs: two models' saved outputs, or the folder of a finished run, whose records are fitted on.
        out: the router's file, `.safetensors`.
        report_dir: a folder for the whole report of the out-of-fold scores, where one is wanted.

    Raises:
        InvalidInput: too few pictures, a run that was itself routed by a fitted router, or files that the
            task cannot read. Where the router or its report cannot be written, nothing is read either.
        ConfigError: an unknown score, rescaling or class.

    Example:
        >>> from ebjr_det import FitSettings, SavedOutputs, fit_router
        >>> files = {"student": "student.npy", "teacher": "teacher.npy", "labels": "labels.npy"}
        >>> settings = FitSettings(folds=2, replicates=10)
        >>> result = fit_router(SavedOutputs("classification", files), "router.safetensors", settings)
        >>> result.path.is_file(), result.file.header.task
        (True, 'classification')
    """
    if isinstance(outputs, SavedOutputs):
        check_costs(settings.cost, outputs.references)
        check_places(Path(out), report_dir)
        source = _of_files(outputs)
    else:
        check_places(Path(out), report_dir)
        source, settings = _of_run(Path(outputs), settings)
    return _fit(source, Path(out), settings, report_dir)


def _of_files(outputs: SavedOutputs) -> FitSource:
    section, names, remarks = RouterSection(), outputs.class_names, Remarks()
    scoring = Scoring.load(outputs.task, section).bind(names)
    variants = load_task(outputs.task).routing.VARIANTS.items()
    widths: list[int] = []

    def scores(output: Output) -> dict[str, FloatArray]:
        widths.append(output.logits.values.shape[2])
        of_variants = {
            name: deferral_scores(output.logits, base, **options) for name, (base, options) in variants
        }
        return scoring.scores(output) | of_variants

    run = outputs.load(scores, remarks)
    student, teacher = (name_of(outputs.sources[side]) for side in ("student", "teacher"))
    classes, title = len(names) or widths[0], f"{student} + {teacher}"
    saved = {"references": outputs.references, "lenient": bool(outputs.options.get("lenient"))}
    return FitSource(
        run, names, classes, "", teacher, title, section,
        references=tuple(outputs.references), remarks=remarks, saved=saved,
    )  # fmt: skip


def _of_run(run_dir: Path, settings: FitSettings) -> tuple[FitSource, FitSettings]:
    """A finished run, and the settings with its costs where they name none."""
    run, analysis = load_folder(run_dir)
    section = load_score_settings(run_dir / CONFIG)
    if analysis.selection is not None:  # all of its images, as the student answered
        run, analysis = load_run(run_dir / RUN), replace(analysis, router=None)
    if analysis.router is not None or section is None:
        raise InvalidInput(
            f"Expected a run without a fitted router, got one in `{run_dir}`. Its scores are "
            "rescaled already."
        )
    check_run(analysis, load_task(run.task).routing)
    run, remarks = uncalibrated(run, run_dir)
    if settings.cost == CostModel():
        settings = settings._replace(cost=analysis.cost)
    student, teacher = "" if is_replay(run_dir) else analysis.student.name, analysis.teacher.name
    names = analysis.class_names
    source = FitSource(
        run, names, len(names), student, teacher, analysis.title, section, analysis.score,
        analysis.references, analysis.popular, remarks=remarks,
        student_weights=str(analysis.student.extras.get(WEIGHTS, "")),
    )  # fmt: skip
    return source, settings


class FittedChoice(NamedTuple):
    """What was compared out of fold, and the router that was then fitted on all of it."""

    comparison: RouterComparison
    router: FittedRouter

    @property
    def crossed(self) -> PairedRun:
        """The run under the chosen rescaling, every score out of fold."""
        return self.comparison.crossed[self.comparison.rescaling]


def choose_router(source: FitSource, settings: FitSettings, *, reported: bool = True) -> FittedChoice:
    """Compare all routers out of fold, and fit the one that is chosen on all pictures.

    Unless they are `reported`, scores of a result file's features, which are never chosen, are left out.

    Raises:
        EbjrError: settings that no fit on these records could have, or records that nothing can be fitted on.
    """
    run, routing = source.run, load_task(source.run.task).routing
    worth = routing.check_worth(settings.class_weights or {}, source.class_names)
    task = routing.judge(worth)
    check_settings(settings, run, routing)
    compared = run if reported or source.student else replace(run, features=None)
    parts = folds(len(run), settings.folds, settings.seed)
    fit = partial(routing.fit_router, worth=worth, seed=settings.seed)
    rescalings, learned = rescalings_of(settings, routing), 1 if settings.rescaling == "none" else 2
    total = len(parts) * (len(rescalings) + learned) + 1
    with tqdm(total=total, unit="fold", desc="fitting") as bar:

        def cross(rescaling: str, learn: bool) -> PairedRun:
            only = "" if learn else routing.SELECTS_BY
            return cross_fit(compared, task, partial(fit, rescaling=rescaling, learn=learn), parts, bar, only)

        comparison = compare_routers(
            compared, task, cross, rescalings, settings.score,
            live=bool(source.student), replicates=settings.replicates, seed=settings.seed,
        )  # fmt: skip
        router = fit(run, rescaling=comparison.rescaling)
        bar.total = bar.n + 1  # where no rescaling is best, nothing was learned twice
        bar.update()
    return FittedChoice(comparison, router)


def _fit(source: FitSource, out: Path, settings: FitSettings, report_dir: str | Path | None) -> FittedResult:
    routing = load_task(source.run.task).routing
    writable_folder(out.parent)
    choice = choose_router(source, settings)
    task = routing.judge(routing.check_worth(settings.class_weights or {}, source.class_names))
    trial = _trial(source, task, choice.comparison, settings)
    file = file_of(source, choice, trial.evidence())
    if report_dir is not None:
        settings_dict = {**settings._asdict(), **source.saved}
        _write_report(Path(report_dir), choice.crossed, trial, settings_dict)
    file.save(out)
    for warning in file.header.warnings:
        say(f"Warning: {warning}. The router was saved all the same.")
    return FittedResult(trial, file, out)


def _trial(source: FitSource, task: Task, comparison: RouterComparison, settings: FitSettings) -> RouterTrial:
    score, rescaling = comparison.score, comparison.rescaling
    run, title = comparison.crossed[rescaling], f"Out of fold: {source.title}"
    analysis = Analysis(
        title=titled(title + " (classes weighted)" * bool(settings.class_weights), run),
        score=score,
        formula=_formula(score, run.task),
        threshold=at_rate(run, score, settings.rates[0] if settings.rates else default_rate(run)).threshold,
        rates=settings.rates or None,
        references=source.references,
        student=Profile(source.student or "student"),
        teacher=Profile(source.teacher),
        cost=settings.cost,
        replicates=settings.replicates,
        seed=settings.seed,
        class_names=source.class_names,
        popular=source.popular,
        remarks=source.remarks,
        threshold_from="rate",
        picked_among=comparison.candidates if settings.score == AUTO else 0,
    )
    report = build_report(run, task, analysis)
    plain = comparison.areas.get("none", {})
    return RouterTrial(report, plain, comparison.by_rescaling, comparison.ends, rescaling, settings.folds)


def _formula(score: str, task: str) -> str:
    routing = load_task(task).routing
    base, _ = routing.VARIANTS.get(score, (score, {}))
    return SCORES[base].formula if base in SCORES else routing.SCORES[score].formula


def file_of(source: FitSource, choice: FittedChoice, evidence: Mapping[str, object]) -> RouterFile:
    """The chosen router as a file."""
    routing, comparison = load_task(source.run.task).routing, choice.comparison
    base, logits_settings = settings_of(comparison.score, source.section, source.decided, routing)
    rescaled = replace(source.run, student=choice.router.rescale_records(source.run.student))
    header = RouterHeader(
        task=source.run.task,
        score=base,
        rescaling=comparison.rescaling,
        classes=source.classes,
        class_names=source.class_names,
        student=source.student,
        teacher=source.teacher,
        image_ids=source.run.image_ids,
        fingerprints=tuple(routing.fingerprints(source.run).tolist()),
        settings=logits_settings,
        evidence=evidence,
        popular=source.popular,
        student_weights=source.student_weights,
    )
    reference = score_of(choice.crossed, comparison.score)
    return RouterFile(header, reference, routing.student_numbers(rescaled), choice.router.to_arrays())


def _write_report(folder: Path, run: PairedRun, trial: RouterTrial, settings: Mapping[str, object]) -> None:
    clear_replay_folder(folder)
    text = settings_text(trial, settings)
    write_text(folder / CONFIG, text)
    save_run(run, folder / RUN)
    save_analysis(
        folder, trial.report.analysis, text, describe_environment("cpu", trial.report.analysis.seed)
    )
    write_report_of(folder)
