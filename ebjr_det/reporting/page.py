"""The report as one HTML page that holds all it shows: no network, no script, fit to print.

The template escapes every text; figures are embedded as pictures, so that no text in them can act.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jinja2

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.evaluation.report import Report
from ebjr_det.io.files import existing_file
from ebjr_det.reporting.calibrated import target_text
from ebjr_det.reporting.gallery import Gallery, data_uri, load_gallery
from ebjr_det.reporting.notation import Shown, number, plural, share, threshold_text
from ebjr_det.reporting.sentences import findings, latency_name
from ebjr_det.reporting.tables import (
    classes_table,
    further_tables,
    models_table,
    points_table,
    scores_table,
    unit_of,
)

TEMPLATE = Path(__file__).with_name("page.html.j2")


class Origin(NamedTuple):
    """How a run was made and what there is to see of it, from its folder."""

    settings: str
    environment: Mapping[str, object]
    gallery: Gallery

    @classmethod
    def of(cls, run_dir: Path, settings: str, environment: str) -> "Origin":
        """Read the named files of a run folder. Raises InvalidInput for missing or damaged ones."""
        paths = [existing_file(run_dir / name, "a finished run folder") for name in (settings, environment)]
        try:
            text, facts = (path.read_text(encoding="utf-8") for path in paths)
            return cls(text, dict(json.loads(facts)), load_gallery(run_dir))
        except ValueError as error:
            raise InvalidInput(f"Expected a whole run in `{run_dir}`, got: {first_line(error)}.") from error


def draw_page(report: Report, figures: Mapping[str, Path], run_dir: Path, origin: Origin) -> str:
    """The whole page.

    Args:
        figures: SVG files by what they show: a cost, or `histogram`.
        run_dir: where the gallery's pictures are.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    verdict, *sentences = findings(report)
    svg = "data:image/svg+xml;base64,"
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=report.analysis.title,
        finding=verdict,
        findings=sentences,
        tiles=list(_tiles(report)),
        models=models_table(report),
        figures=[
            (svg + b64encode(path.read_bytes()).decode(), _caption(report, kind))
            for kind, path in figures.items()
        ],
        tables=[*further_tables(report), points_table(report), scores_table(report)],
        classes=classes_table(report),
        gallery=origin.gallery,
        picture=lambda file: data_uri(run_dir, file),
        facts=_facts(report, origin.environment),
        settings=origin.settings,
    )


def _tiles(report: Report) -> Iterator[tuple[str, str]]:
    """The few numbers to see first, each with what it is."""
    name, show = report.task.quality_name, Shown.of(report.task.quality_name)
    _, teacher, joint = report.sides().values()
    yield show.text(joint["quality"]), f"{name} of the pair"
    yield f"{share(joint['deferral_rate'])} %", "of the images go to the teacher"
    if joint["gap_recovered"] is not None:
        yield f"{number(joint['gap_recovered'], 100, 1)} %", "of the gap to the teacher recovered"
    if joint["macs"] and teacher["macs"]:
        yield f"{share(joint['macs'] / teacher['macs'])} %", "of the teacher's multiply-adds"
    if joint["latency_ms"] and teacher["latency_ms"]:
        yield f"{share(joint['latency_ms'] / teacher['latency_ms'])} %", "of the teacher's latency, measured"
    costs = {"macs": "multiply-adds", "latency_ms": latency_name(report.analysis)}
    for kind, (margin, *_) in report.margins.items():
        level = f"{100 * report.intervals.confidence:g} % interval {show.interval(margin.interval)}"
        mixed = f"against single models mixed at random, at equal {costs[kind]}"
        yield show.difference(margin.value), f"{name} {mixed}, {level}"


def _caption(report: Report, kind: str) -> str:
    name, confidence = report.task.quality_name, 100 * report.intervals.confidence
    band = f"Band: {confidence:g} % bootstrap interval over images."
    single = "The thin line is the hull of single models, what mixing them at random reaches."
    if not all(rival.published for rival in report.rivals):
        single += " Triangles are further single models, measured on the same images."
    if any(rival.published for rival in report.rivals):
        single += " Hollow marks are published figures, not measured here."
    captions = {
        "macs": f"{name} against multiply-adds an image, every operating point of the best scores. The "
        f"student always runs: the pair costs student + deferral rate x teacher. {single} {band}",
        "latency_ms": f"{name} against the expected latency of the pair, student + deferral rate x teacher. "
        f"{single} {band}",
        "deferral_rate": f"{name} against the share of images that the teacher answers. Random is the "
        f"expectation of a coin; the oracle defers by descending true reward. {band}",
        "histogram": "Deferral scores on both sides of the threshold. Each group's bars add up to 100 %, so "
        "that a small group shows as well as a large one.",
    }
    return captions[kind][0].upper() + captions[kind][1:]


def _facts(report: Report, environment: Mapping[str, object]) -> list[tuple[str, str]]:
    """How the numbers came about, as names and words."""
    analysis, chosen, use = report.analysis, report.analysis.calibration, report.analysis.router
    facts = [
        ("deferral score", f"{analysis.score} = {analysis.formula}"),
        ("threshold", threshold_text(report.decision.threshold)),
    ]
    if chosen is not None:
        target = target_text(chosen.target, report.task.quality_name, unit_of(report))
        images = plural(chosen.images, "other image")
        facts.append(("calibrated", f"{target}, on {images}, seed {chosen.seed}"))
    if use is not None:
        pictures = plural(use.fitted_on, "picture")
        facts.append(("fitted router", f"{use.score}, rescaling {use.rescaling}, on {pictures}"))
        facts.append(("left out, seen by the router", plural(len(use.left_out), "picture")))
    facts.append(("bootstrap", f"{plural(analysis.replicates, 'resample')}, seed {analysis.seed}"))
    if analysis.unreadable:
        facts.append(("left out, unreadable", ", ".join(analysis.unreadable)))
    for name, value in environment.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {text}" for key, text in value.items())
        elif isinstance(value, list):
            value = " ".join(f"{entry:.2f}" if isinstance(entry, float) else str(entry) for entry in value)
        if value is not None:
            facts.append((name.replace("_", " "), str(value)))
    return facts
