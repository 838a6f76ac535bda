"""The report as one HTML page that holds all it shows: no network, works from a file, fit to print.

The template escapes every text, figures are elements of the page in its own colours, and the page's policy
lets no script run but the one that moves the slider; without it everything but the slider is there.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebjr_det.core.errors import InvalidInput, first_line
from ebjr_det.evaluation.report import Report
from ebjr_det.io.files import existing_file
from ebjr_det.reporting.answer import (
    figure_title,
    headline,
    share_sentence,
    trust_sentence,
    verdict,
    warnings,
)
from ebjr_det.reporting.calibrated import target_text
from ebjr_det.reporting.gallery import Gallery, data_uri, load_gallery
from ebjr_det.reporting.glossary import GLOSSARY
from ebjr_det.reporting.inline_figure import SIZES, InlineFigure, Words, inline_figure, svg_element
from ebjr_det.reporting.notation import milliseconds, plural, threshold_text
from ebjr_det.reporting.report_figures import known_costs, tradeoff_of
from ebjr_det.reporting.sent import sent_sentences
from ebjr_det.reporting.sentences import further_findings, main_findings
from ebjr_det.reporting.slider import Slider
from ebjr_det.reporting.tables import (
    classes_table,
    further_tables,
    models_table,
    points_table,
    scores_table,
    summary_table,
    unit_of,
)
from ebjr_det.reporting.tradeoff_figure import TradeoffFigure

PAGE = "report.html"
FOLDER = Path(__file__).parent
STYLES, SCRIPT = (FOLDER / name for name in ("page.css", "page.js"))
MOST_PICTURE_BYTES = 1_900_000
"""Of the gallery in one page, so that with all else it stays under 3 MB."""
LINKED = {
    "multiply-adds": "MACs", "single models mixed at random": "hull", "coin": "coin", "oracle": "oracle",
    "out of fold": "out of fold", "resamples": "interval", "rescaled": "rescaling",
}  # fmt: skip
"""Words in sentences, and the word of the glossary that each leads to."""
HOUR_MS, MILLION = 3.6e6, 1_000_000


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


def load_template(name: str) -> jinja2.Template:
    """A page's template by its file, which escapes every text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"linked": linked, "glued": glued}
    return environment.from_string((FOLDER / name).read_text(encoding="utf-8"))


def draw_page(report: Report, figures: Mapping[str, Path], run_dir: Path, origin: Origin) -> str:
    """The whole page.

    Args:
        figures: SVG files by what they show: a cost, or `histogram`. Without any there is no slider.
        run_dir: where the gallery's pictures are.
    """
    script = SCRIPT.read_text(encoding="utf-8")
    drawn = _drawn(figures, report)
    histogram = drawn.pop("histogram", None)
    drawn.pop(known_costs(report)[0], None)
    return load_template("page.html.j2").render(
        title=report.analysis.title,
        headline=glued(headline(report)),
        answer=[verdict(report), share_sentence(report), trust_sentence(report)],
        warnings=warnings(report),
        pair=(report.analysis.student.name, report.analysis.teacher.name),
        images=plural(len(report.run), "image"),
        policy=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        styles=STYLES.read_text(encoding="utf-8"),
        script=script,
        live=live_figure(report) if figures else None,
        quality=report.task.quality_name,
        score=report.curve.score,
        hours=list(_hours(report)),
        timed=_timed(report),
        small=summary_table(report),
        sent=sent_sentences(report),
        histogram=histogram,
        figures=list(drawn.values()),
        findings=[*main_findings(report), *further_findings(report)],
        models=[models_table(report), *further_tables(report)],
        points=points_table(report),
        scores=scores_table(report),
        classes=classes_table(report),
        gallery=origin.gallery.within(run_dir, MOST_PICTURE_BYTES),
        picture=lambda file: data_uri(run_dir, file),
        facts=_facts(report, origin.environment),
        settings=origin.settings,
        glossary=GLOSSARY,
    )


class LiveFigure(NamedTuple):
    """The page's figure: its forms by size, what it shows in words, and the points that its slider has."""

    title: str
    caption: str
    forms: Mapping[str, InlineFigure]
    slider: Slider


def live_figure(report: Report) -> LiveFigure:
    """Quality against the cost that tells most, in a wide and in a narrow form."""
    kind = known_costs(report)[0]
    figure, words = tradeoff_of(report, kind), Words(figure_title(report, kind), caption(report, kind))
    return LiveFigure(*words, draw_forms(figure, words), Slider.of(report, figure.scale))


def draw_forms(figure: TradeoffFigure, words: Words) -> dict[str, InlineFigure]:
    """A figure in the wide and in the narrow form."""

    def paint(form: str) -> Callable[[Figure, Axes], None]:
        return partial(figure.paint, scale=figure.scale, narrow=form == "narrow")

    return {form: inline_figure(paint(form), form, words) for form in SIZES}


def _drawn(figures: Mapping[str, Path], report: Report) -> dict[str, tuple[Markup, str]]:
    """Figures of the run's folder by what they show, as elements of the page, and how to read each."""
    drawn = {}
    for kind, path in figures.items():
        words = Words(path.stem.replace("_", " "), caption(report, kind))
        drawn[kind] = svg_element(path.read_text(encoding="utf-8"), kind, words), words.about
    return drawn


def glued(text: str) -> str:
    """A text in which a number stays beside its unit, and an interval in one piece."""
    return re.sub(r"(?<=\d) (?=%|ms\b|[kMGTP]MACs\b)|(?<=\d,) (?=[-+\d.e]+\])", "\u00a0", text)


def linked(text: str) -> Markup:
    """A sentence whose words of the glossary lead there, each once.

    >>> linked("a coin & a coin")
    Markup('a <a href="#word-coin">coin</a> &amp; a coin')
    """
    result = glued(str(escape(text)))
    for word, entry in LINKED.items():
        link = rf'<a href="#word-{entry.replace(" ", "-")}">\g<0></a>'
        result = re.sub(rf"\b{word}\b", link, result, count=1)
    return Markup(result)  # noqa: S704


def _hours(report: Report) -> Iterator[tuple[str, str, float, str]]:
    """By who answers: its name, ms an image as text and as number, hours for a million images."""
    alone, live = report.curve.cost.alone("latency_ms"), report.analysis.live
    joint = report.chosen.latency_ms if live is None else live.mean
    if alone is None or joint is None:
        return
    for side, time in (("student alone", alone[0]), ("pair", joint), ("teacher alone", alone[1])):
        yield side, milliseconds(time), time, f"{time * MILLION / HOUR_MS:,.2f}"


def _timed(report: Report) -> str:
    """Where the latencies are from."""
    latency = report.analysis.student.latency
    if latency is None:
        return "which were given and not measured here"
    return f"measured at batch {latency.batch_size} on {latency.device}"


def caption(report: Report, kind: str) -> str:
    """How to read a figure."""
    name, confidence = report.task.quality_name, 100 * report.intervals.confidence
    band = f"Band: {confidence:g} % bootstrap interval over images."
    single = "The thin line is the hull of single models, what mixing them at random reaches."
    if not all(rival.published for rival in report.rivals):
        single += " Triangles are further single models, measured on the same images."
    if any(rival.published for rival in report.rivals):
        single += " Hollow marks are published figures, not measured here."
    captions = {
        "macs": f"{name} against multiply-adds an image, at every operating point. The "
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
