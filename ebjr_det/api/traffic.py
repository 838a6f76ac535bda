"""`traffic`: finished runs under a stated mix of classes, re-weighted exactly by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ebjr_det.core.errors import ConfigError, InvalidInput, check_seed
from ebjr_det.core.tradeoff import select
from ebjr_det.core.types import PairedRun, Task
from ebjr_det.evaluation.analysis import Analysis
from ebjr_det.evaluation.bootstrap import check_replicates
from ebjr_det.evaluation.report import decided
from ebjr_det.evaluation.run_folder import ENVIRONMENT, load_folder
from ebjr_det.evaluation.traffic.mix import Composition, Mix
from ebjr_det.evaluation.traffic.report import TrafficReport, build_traffic_report
from ebjr_det.evaluation.traffic.stated import AskedMix
from ebjr_det.io.environment import describe_environment
from ebjr_det.io.files import to_json, writable_folder, write_text
from ebjr_det.reporting.table import markdown_text
from ebjr_det.reporting.traffic.figures import write_cost_figure, write_share_figure
from ebjr_det.reporting.traffic.tables import traffic_findings, traffic_tables
from ebjr_det.tasks import load_task
from ebjr_det.tasks.popular import Popular


class Trafficked(NamedTuple):
    """The report, and where it was written."""

    report: TrafficReport
    folder: Path


def traffic(
    run_dirs: Sequence[str | Path],
    out: str | Path,
    asked: AskedMix,
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
    """
    place = Path(out)
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise ConfigError(f"Expected an empty --out, got files in `{place}`.")
    check_replicates(replicates)
    check_seed(seed)
    names = _short_names(run_dirs)
    loaded = [(name, *load_folder(Path(folder))) for name, folder in zip(names, run_dirs, strict=True)]
    ready = _Ready.of(loaded, asked)
    writable_folder(place)
    report = ready.report(replicates, seed)
    title, tables = f"# Traffic: {markdown_text(report.said)}", traffic_tables(report)
    lines = [f"## {markdown_text(table.title)}\n\n{table.markdown()}\n" for table in tables]
    lines += ["\n".join(f"- {markdown_text(sentence)}" for sentence in traffic_findings(report))]
    write_text(place / "table.md", "\n".join([title, "", *lines]).rstrip() + "\n")
    curves = {run.name: run.curve_dict() for run in report.runs}
    folders = {name: str(folder) for name, folder in zip(names, run_dirs, strict=True)}
    content = report.to_dict() | {"folders": folders, "asked": vars(asked), "curves": curves}
    write_text(place / "traffic.json", to_json(content, pretty=False))
    write_text(place / ENVIRONMENT, to_json(describe_environment("cpu", seed)))
    write_cost_figure(report, place / f"{report.quality_name}_by_macs")
    write_share_figure(report, place / f"{report.quality_name}_by_popular_share")
    return Trafficked(report, place)


class _Ready(NamedTuple):
    """Runs on the images that they have in common, checked, and the mix."""

    runs: Sequence[tuple[str, PairedRun, Analysis]]
    task: Task
    composition: Composition
    mix: Mix
    said: str

    @classmethod
    def of(cls, loaded: Sequence[tuple[str, PairedRun, Analysis]], asked: AskedMix) -> "_Ready":
        tasks = list(dict.fromkeys(run.task for _, run, _ in loaded))
        if len(tasks) > 1:
            raise ConfigError(f"Expected runs of one task, got {' and '.join(tasks)}.")
        task = load_task(tasks[0]).judge()
        runs = _common(loaded, task)
        names = _class_names(runs)
        counts = [task.composition(run.student, len(names) or None) for _, run, _ in runs]
        for (name, run, _), own in zip(runs, counts, strict=True):
            other = own.shape != counts[0].shape or (own != counts[0]).any(axis=1)
            if np.any(other):
                image = run.image_ids[int(np.argmax(other))]
                raise InvalidInput(
                    f"Expected runs of the same images, got other objects in `{image}` of {runs[0][0]} "
                    f"and of {name}."
                )
        names = names or tuple(map(str, range(counts[0].shape[1])))
        popular, ranks = _popular(asked, runs, names)
        composition = Composition(counts[0], names, popular)
        mix, said = asked.mix(composition, ranks)
        for needed in (mix, Mix.of_popular(0.5, composition)):
            composition.weights(needed)
        return cls(runs, task, composition, mix, said)

    def report(self, replicates: int, seed: int) -> TrafficReport:
        return build_traffic_report(
            self.runs, self.task, self.mix, self.said, self.composition, replicates=replicates, seed=seed
        )


def _common(
    loaded: Sequence[tuple[str, PairedRun, Analysis]], task: Task
) -> list[tuple[str, PairedRun, Analysis]]:
    """The runs on the images that all of them report on, in the order of the first."""
    reported = [(name, decided(run, task, analysis)[0], analysis) for name, run, analysis in loaded]
    places = [{image: at for at, image in enumerate(run.image_ids)} for _, run, _ in reported]
    common = [image for image in places[0] if all(image in own for own in places)]
    if not common:
        raise InvalidInput(
            f"Expected runs of the same images, got none that {' and '.join(n for n, *_ in loaded)} share."
        )
    return [
        (name, select(run, task, np.array([own[image] for image in common])), analysis)
        for (name, run, analysis), own in zip(reported, places, strict=True)
    ]


def _class_names(runs: Sequence[tuple[str, PairedRun, Analysis]]) -> tuple[str, ...]:
    """Those of the runs that know them. Raises InvalidInput where two know others."""
    known = [(name, analysis.class_names) for name, _, analysis in runs if analysis.class_names]
    for name, names in known:
        if names != known[0][1]:
            raise InvalidInput(f"Expected runs of the same classes, got others in {known[0][0]} and {name}.")
    return known[0][1] if known else ()


def _popular(
    asked: AskedMix, runs: Sequence[tuple[str, PairedRun, Analysis]], names: tuple[str, ...]
) -> tuple[Any, list[int]]:
    """[classes] which are popular, and all classes by rank: popular ones as listed, then the others."""
    known = [Popular.of(analysis.popular, names) for _, _, analysis in runs if analysis.popular]
    popular = popular_of_mix(asked, known[0] if known else None, names)
    chosen = asked.popular if asked.popular is not None else popular.names
    listed = [names.index(one) if isinstance(one, str) else one for one in chosen]
    mask = np.isin(np.arange(len(names)), popular.classes)
    return mask, listed + np.flatnonzero(~mask).tolist()


def popular_of_mix(asked: AskedMix, own: Popular | None, names: Sequence[str]) -> Popular:
    """The popular classes of a mix: as asked, else those of a specialised student.

    Raises:
        ConfigError: unknown classes, or nobody tells any.
    """
    if asked.popular is not None:
        return Popular.of(asked.popular, names)
    if own is None:
        raise ConfigError("Expected --popular classes, as the runs tell none, got none.")
    return own


def _short_names(run_dirs: Sequence[str | Path]) -> list[str]:
    """The folders' own names where they differ, else their paths. Raises ConfigError for one twice."""
    paths = [str(folder) for folder in run_dirs]
    if not paths or len({Path(path).resolve() for path in paths}) < len(paths):
        raise ConfigError(f"Expected different runs, got {', '.join(paths) or 'none'}.")
    short = [Path(path).resolve().name for path in paths]
    return short if len(set(short)) == len(short) else paths
