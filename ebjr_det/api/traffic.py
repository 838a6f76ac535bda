"""`traffic`: finished runs under a stated mix of classes, re-weighted exactly by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ebjr_det.config import StatedMix
from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import FloatArray, PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.evaluation.report import decided
from ebjr_det.evaluation.run_folder import ENVIRONMENT, load_folder
from ebjr_det.evaluation.traffic.mix import Composition, mix_of, popular_mix
from ebjr_det.evaluation.traffic.report import TrafficReport, build_traffic_report
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import check_empty, to_json, writable_folder, write_text
from ebjr_det.reporting.overview import Overview, PrintedResult
from ebjr_det.reporting.table import document
from ebjr_det.reporting.traffic.figures import write_cost_figure, write_share_figure
from ebjr_det.reporting.traffic.tables import summary_table, traffic_findings, traffic_tables
from ebjr_det.tasks import load_task
from ebjr_det.tasks.popular import Popular

Named: TypeAlias = tuple[str, PairedRun, Analysis]
"""A run with its name and its analysis."""


@dataclass(frozen=True, repr=False)
class Trafficked(PrintedResult):
    """The report, and where it was written."""

    report: TrafficReport
    folder: Path

    def overview(self) -> Overview:
        """Who is ahead under the mix, and the table of the runs."""
        finding = next(iter(traffic_findings(self.report)), f"{self.report.runs[0].name} under the mix.")
        return Overview(finding, summary_table(self.report), self.folder)


def traffic(
    run_dirs: Sequence[str | Path],
    out: str | Path,
    stated: StatedMix,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> Trafficked:
    """Judge finished runs of the same images under a mix, each at its chosen threshold and at equal MACs.

    The first run is the one in question, the others are what it is compared with. Writes tables, figures and
    `traffic.json` to `out`.

    Raises:
        ConfigError: runs of several tasks or one twice, a mix that cannot be, or an `out` that is not empty.
        InvalidInput: a folder without a whole run, runs of other images or without labels, a class of the mix
            that no image shows; nothing is written then.

    Example:
        >>> from ebjr_det import StatedMix, traffic
        >>> result = traffic(["runs/digits"], "mix", StatedMix(popular=[0, 1, 2], share=0.7), replicates=10)
        >>> len(result.report.runs)
        1
    """
    folder = Path(out)
    check_empty(folder)
    check_replicates(replicates)
    check_seed(seed)
    names = _short_names(run_dirs)
    loaded = [(name, *load_folder(Path(run_dir))) for name, run_dir in zip(names, run_dirs, strict=True)]
    for name, run, _ in loaded:
        check_labelled(run, name)
    report = judge(loaded, stated, replicates=replicates, seed=seed)
    folders = {name: str(run_dir) for name, run_dir in zip(names, run_dirs, strict=True)}
    _write(report, {"folders": folders, "asked": vars(stated)}, writable_folder(folder))
    return Trafficked(report, folder)


def check_labelled(run: PairedRun, name: str) -> None:
    """Raises InvalidInput for a run that no label judged."""
    if run.estimated:
        raise InvalidInput(
            f"Expected runs with labels, which tell what the images show, got `{name}`, estimated without. "
            "Label these images, or leave out the mix."
        )


def _write(report: TrafficReport, origin: Mapping[str, object], folder: Path) -> None:
    curves = {run.name: run.curve_dict() for run in report.runs}
    content = {**report.to_dict(), **origin, "curves": curves}
    title, tables = f"Traffic: {report.title}", traffic_tables(report)
    write_text(folder / "table.md", document(title, tables, traffic_findings(report)))
    write_text(folder / "traffic.json", to_json(content, pretty=False))
    write_text(folder / ENVIRONMENT, to_json(describe_environment("cpu", report.seed)))
    write_cost_figure(report, folder / f"{report.quality_name}_by_macs")
    write_share_figure(report, folder / f"{report.quality_name}_by_popular_share")


def judge(loaded: Sequence[Named], stated: StatedMix, *, replicates: int, seed: int) -> TrafficReport:
    """Runs under a mix, on the images that all of them report on. Raises EbjrError: see `traffic`."""
    tasks = list(dict.fromkeys(run.task for _, run, _ in loaded))
    if len(tasks) > 1:
        raise ConfigError(f"Expected runs of one task, got {' and '.join(tasks)}.")
    task = load_task(tasks[0]).judge()
    runs = _common(loaded, task)
    names = _class_names(runs)
    counts = _counts(runs, task, len(names) or None)
    names = names or tuple(map(str, range(counts.shape[1])))
    trained = [Popular.of(analysis.popular, names) for *_, analysis in runs if analysis.popular]
    composition, mix, title = stated_on(stated, counts, names, trained[0] if trained else None)
    return build_traffic_report(runs, task, (mix, title), composition, replicates=replicates, seed=seed)


def stated_on(
    stated: StatedMix, counts: NDArray[np.integer], names: tuple[str, ...], trained: Popular | None
) -> tuple[Composition, FloatArray, str]:
    """What images show, and of a stated mix its shares and its words.

    Args:
        counts: [images, classes] objects; `names` of the classes.
        trained: the popular classes of a specialised student, which count where the mix tells none.

    Raises:
        ConfigError: unknown classes, or nobody tells the popular ones.
        InvalidInput: a class of the mix, or one of both groups of classes, that no image shows.
    """
    popular = trained if stated.popular is None else Popular.of(stated.popular, names)
    if popular is None:
        raise ConfigError("Expected --popular classes, as the runs tell none, got none.")
    listed = stated.popular or popular.names
    ranks = [names.index(name) if isinstance(name, str) else name for name in listed]
    mask = np.isin(np.arange(len(names)), popular.classes)
    composition = Composition(counts, names, mask)
    mix, title = mix_of(stated, composition, ranks + np.flatnonzero(~mask).tolist())
    for needed in (mix, popular_mix(0.5, composition)):
        composition.weights(needed)
    return composition, mix, title


def _common(loaded: Sequence[Named], task: Task) -> list[Named]:
    """The runs on the images that all of them report on, in the order of the first."""
    reported = [(name, decided(run, task, analysis)[0], analysis) for name, run, analysis in loaded]
    places = [{image: index for index, image in enumerate(run.image_ids)} for _, run, _ in reported]
    common = [image for image in places[0] if all(image in indices for indices in places)]
    if not common:
        raise InvalidInput(
            f"Expected runs of the same images, got none that {' and '.join(n for n, *_ in loaded)} share."
        )
    return [
        (name, select(run, task, np.array([indices[image] for image in common])), analysis)
        for (name, run, analysis), indices in zip(reported, places, strict=True)
    ]


def _class_names(runs: Sequence[Named]) -> tuple[str, ...]:
    """The classes' names, of the runs that know them. Raises InvalidInput where two know others."""
    named = [(name, analysis.class_names) for name, _, analysis in runs if analysis.class_names]
    for name, names in named:
        if names != named[0][1]:
            raise InvalidInput(f"Expected runs of the same classes, got others in {named[0][0]} and {name}.")
    return named[0][1] if named else ()


def _counts(runs: Sequence[Named], task: Task, classes: int | None) -> NDArray[np.integer]:
    """[images, classes] objects. Raises InvalidInput where the runs' records tell different ones."""
    by_run = [task.composition(run.student, classes) for _, run, _ in runs]
    for (name, run, _), counts in zip(runs, by_run, strict=True):
        differs = counts.shape != by_run[0].shape or (counts != by_run[0]).any(axis=1)
        if np.any(differs):
            raise InvalidInput(
                f"Expected runs of the same images, got other objects in "
                f"`{run.image_ids[int(np.argmax(differs))]}` of {runs[0][0]} and of {name}."
            )
    return by_run[0]


def _short_names(run_dirs: Sequence[str | Path]) -> list[str]:
    """The folders' own names where they differ, else their paths. Raises ConfigError for one twice."""
    paths = [str(folder) for folder in run_dirs]
    if not paths or len({Path(path).resolve() for path in paths}) < len(paths):
        raise ConfigError(f"Expected different runs, got {', '.join(paths) or 'none'}.")
    short = [Path(path).resolve().name for path in paths]
    return short if len(set(short)) == len(short) else paths
