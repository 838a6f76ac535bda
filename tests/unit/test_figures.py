"""Figures: whole files, the same bytes twice, no error or warning (pytest makes them errors) at the edges."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from ebjr_det.core import tradeoff
from ebjr_det.core.cost import CostModel
from ebjr_det.core.errors import ConfigError, InvalidInput
from ebjr_det.core.scores import deferral_scores
from ebjr_det.core.types import Logits, PairedRun
from ebjr_det.evaluation.bootstrap import bootstrap
from ebjr_det.reporting.histogram_figure import Groups, HistogramFigure
from ebjr_det.reporting.style import STYLE
from ebjr_det.reporting.tradeoff_figure import TradeoffFigure
from ebjr_det.tasks import load_task

TASK = load_task("classification").judge()
COST = CostModel(46.2e6, 281.3e6, 0.31, 1.42)
SCORES = ["free_energy", "entropy"]


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    """Pictures of few pixels, as nobody looks at them."""
    monkeypatch.setitem(STYLE, "savefig.dpi", 40)


def pair(images=300, student=4.0, teacher=6.0, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(5, size=images)
    ease = generator.beta(3, 1, size=images)
    both = generator.normal(size=(2, images, 5))
    for logits, strength in zip(both, (student, teacher), strict=True):
        logits[np.arange(images), labels] += strength * ease
    scores = {name: deferral_scores(Logits.one_row(both[0]), name) for name in SCORES}
    ids = tuple(map(str, range(images)))
    return PairedRun("classification", ids, scores, *(TASK.match(logits, labels) for logits in both))


def draw(stem, run, cost=COST, scores=SCORES, kind="macs", band=True, rate=0.28, **changes):
    curves = [tradeoff.sweep(run, TASK, score, cost) for score in scores]
    intervals = None
    if band:
        intervals = bootstrap(run, TASK, scores[:1], reference=scores[0], replicates=10)
    options = {
        "kind": kind,
        "chosen": curves[0].at_rate(rate),
        "quality_name": "accuracy",
        "names": ("resnet_20", "resnet_56"),
        "title": "A pair",
    }
    return TradeoffFigure(curves, intervals, **(options | changes)).write(stem)


def histogram(stem, values, right, threshold, **changes):
    options = {"score": "free_energy", "formula": "-T logsumexp(f / T)", "title": "A score"}
    groups = Groups(~right, "student wrong", "student right")
    return HistogramFigure(values, groups, threshold, **(options | changes)).write(stem)


def texts(files):
    """Every text of the SVG; also asserts that both files are whole and nothing else was left."""
    png, svg = files
    assert sorted(png.parent.iterdir()) == sorted(files)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    root = ET.fromstring(svg.read_text(encoding="utf-8"))
    return [" ".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_tradeoff_figure_names_everything_it_shows(tmp_path: Path):
    run = pair()
    files = draw(tmp_path / "a.b", run, kind="latency_ms", measured_ms=0.75)
    assert [file.name for file in files] == ["a.b.png", "a.b.svg"]
    shown = texts(files)
    curve = tradeoff.sweep(run, TASK, "free_energy", COST)
    point = curve.at_rate(0.28)
    for expected in (
        f"{100 * point.deferral_rate:.1f} % deferred: {100 * point.quality:.1f} %",
        f"student alone: {100 * curve.student_quality:.1f} %",
        f"teacher alone: {100 * curve.teacher_quality:.1f} %",
        "◇ measured live: 0.75 ms",
        "resnet_20",
        "resnet_56",
        "free_energy",
        "95 % interval",
        "entropy",
        "random deferral",
        "accuracy (%)",
        "expected latency (ms per image)",
        "A pair",
    ):
        assert expected in shown
    assert any(text.startswith("oracle") for text in shown)


@pytest.mark.parametrize(
    ("kind", "cost", "name"),
    [
        ("macs", COST, "MMACs per image"),
        ("macs", CostModel(0.4e9, 1.8e9), "GMACs per image"),
        ("deferral_rate", CostModel(), "deferral rate (% of the images)"),
    ],
)
def test_cost_axis_takes_the_unit_that_reads_well(tmp_path: Path, kind, cost, name):
    assert name in texts(draw(tmp_path / "f", pair(), cost, SCORES[:1], kind, band=False))


def marks(svg: Path):
    """Centres (x, y) of the markers of the SVG in drawing order, the same for every figure of one pair."""
    found = re.findall(r'<use xlink:href="#m\w+" x="([\d.]+)" y="([\d.]+)"', svg.read_text())
    return [(float(x), float(y)) for x, y in found]


def test_teacher_alone_stands_at_its_own_cost(tmp_path: Path):
    """On a cost axis the curve ends at student + teacher; the teacher's mark is the student's cost short."""
    run, cost = pair(), CostModel(100e6, 300e6)
    svg = draw(tmp_path / "f", run, cost, SCORES[:1], band=False, chosen=None)[1]
    student, teacher = marks(svg)[-2:]
    ticks = [mark for mark in marks(svg) if mark[1] > student[1]]
    labels = [float(text) for text in texts([svg.with_suffix(".png"), svg]) if re.fullmatch(r"\d+", text)]
    x = [x for x, y in ticks if y == max(tick[1] for tick in ticks)]
    per_mmac = (x[-1] - x[0]) / (labels[len(x) - 1] - labels[0])
    assert teacher[0] - student[0] == pytest.approx(200 * per_mmac, abs=0.01)


@pytest.mark.parametrize("text", ["AP", "accuracy"])
def test_only_an_accuracy_is_in_percent(tmp_path: Path, text):
    shown = texts(draw(tmp_path / "f", pair(), scores=SCORES[:1], band=False, quality_name=text))
    assert (text in shown) == (text == "AP")
    assert any(re.fullmatch(r"student alone: 0\.\d{3}", t) for t in shown) == (text == "AP")


def test_same_input_gives_the_same_bytes_whatever_the_user_has_set(tmp_path: Path):
    run = pair()
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first = [*draw(tmp_path / "1/t", run, measured_ms=1.0)]
    first += histogram(tmp_path / "1/h", run.scores["entropy"], TASK.right(run.student), 0.5)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        second = [*draw(tmp_path / "2/t", run, measured_ms=1.0)]
        second += histogram(tmp_path / "2/h", run.scores["entropy"], TASK.right(run.student), 0.5)
        assert matplotlib.rcParams["font.size"] == 20
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()


def tied(run):
    return replace(run, scores={name: np.zeros(len(run)) for name in run.scores})


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (pair(teacher=2.0, student=5.0), {}),
        (pair(images=3, seed=4), {"kind": "latency_ms", "measured_ms": 0.4}),
        (pair(images=1), {}),
        (tied(pair()), {}),
        (tied(pair()), {"scores": SCORES[:1], "kind": "deferral_rate"}),
        (pair(), {"cost": CostModel(5e6, 5e6)}),
        (pair(), {"cost": CostModel(0, 0), "scores": SCORES[:1]}),
        (pair(student=90.0, teacher=90.0), {}),
        (pair(), {"chosen": None}),
        (pair(), {"names": ("a $x^{ & <b>", "the_longest_name_of_a_model_" * 3), "title": "long $ " * 30}),
    ],
    ids=["worse", "three", "one", "ties", "tie", "equal", "free", "perfect", "unchosen", "names"],
)
def test_edges_of_the_tradeoff_figure(tmp_path: Path, run, options):
    assert "random deferral" in texts(draw(tmp_path / "f", run, **options))


def test_an_oracle_that_would_flatten_the_rest_is_cut_and_says_so(tmp_path: Path):
    run = pair(student=2.0, teacher=2.0)
    shown = texts(draw(tmp_path / "f", run, band=False))
    peak = 100 * tradeoff.sweep(run, TASK, "free_energy").oracle.max()
    assert f"oracle (up to {peak:.1f} %)" in shown


def test_tradeoff_figure_refuses_what_it_cannot_draw(tmp_path: Path):
    run = pair(images=5)
    with pytest.raises(ConfigError, match="one to three trade-off curves"):
        TradeoffFigure([], None, "macs", None, "AP", ("a", "b"), "")
    with pytest.raises(ConfigError, match="measured_ms"):
        draw(tmp_path / "f", run, kind="latency_ms", chosen=None, measured_ms=1.0)
    with pytest.raises(ConfigError, match="Expected known `macs`"):
        draw(tmp_path / "f", run, cost=CostModel())
    with pytest.raises(ConfigError, match="a known cost"):
        draw(tmp_path / "f", run, kind="mac")
    intervals = bootstrap(run, TASK, ["entropy"], reference="entropy", replicates=2)
    curves = [tradeoff.sweep(run, TASK, "free_energy")]
    with pytest.raises(ConfigError, match=r"`free_energy`.*Valid: entropy"):
        TradeoffFigure(curves, intervals, "deferral_rate", None, "accuracy", ("a", "b"), "")
    assert not list(tmp_path.iterdir())


def test_histogram_counts_both_sides_of_the_threshold(tmp_path: Path):
    values = np.array([-3.0, -2.0, -2.0, -1.0, -0.5, 0.0])
    right = np.array([True, True, False, True, False, False])
    shown = texts(histogram(tmp_path / "h", values, right, -1.0))
    for expected in (
        "← stays with the student",
        "4 images (66.7 %), student wrong on 1",
        "sent to the teacher →",
        "2 images (33.3 %), student wrong on 2",
        "threshold \u22121",
        "student right",
        "student wrong",
        "3 images",
        "free_energy = -T logsumexp(f / T)   (higher: more doubt)",
        "A score",
    ):
        assert " ".join(expected.split()) in [" ".join(text.split()) for text in shown]
    assert any(text.startswith("% of the group, per bin") for text in shown)


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (np.inf, "threshold ∞: every image stays with the student"),
        (-np.inf, "threshold \u2212∞: every image goes to the teacher"),
        (1e9, "threshold 1e+09: every image stays with the student"),
    ],
)
def test_a_threshold_out_of_sight_is_a_word(tmp_path: Path, threshold, words):
    values = np.linspace(-9.0, -1.0, 40)
    assert words in texts(histogram(tmp_path / "h", values, values < -3, threshold))


@pytest.mark.parametrize(
    ("values", "right", "threshold"),
    [
        (np.linspace(0, 1, 50), np.ones(50, bool), 0.5),
        (np.linspace(0, 1, 50), np.zeros(50, bool), 0.5),
        (np.full(50, -7.25), np.arange(50) < 40, -7.25),
        (np.full(50, 1e12), np.arange(50) < 40, np.inf),
        (np.array([1.0, 1.0 + 1e-15]), np.array([True, False]), 1.0),
        (np.array([-np.inf, 0.0, 1.0, np.inf]), np.array([True, True, False, False]), 0.5),
        (np.array([-np.inf, 0.0, 1.0, np.inf]), np.array([True, True, False, False]), 5.0),
        (np.full(3, np.inf), np.array([True, True, False]), np.inf),
        (np.array([0.3]), np.array([True]), 0.1),
    ],
    ids=["right", "wrong", "equal", "huge", "last bit", "infinite", "between", "all infinite", "one"],
)
def test_edges_of_the_histogram(tmp_path: Path, values, right, threshold):
    assert "sent to the teacher →" in texts(histogram(tmp_path / "h", values, right, threshold))


def test_histogram_refuses_what_it_cannot_draw(tmp_path: Path):
    for values, right, threshold in (
        ([], [], 0.0),
        ([1.0, np.nan], [True, False], 0.0),
        ([1.0], [True], np.nan),
        ([1.0], [True, False], 0.0),
    ):
        with pytest.raises(InvalidInput, match="one length above 0"):
            histogram(tmp_path / "h", np.array(values), np.array(right, bool), threshold)
    assert not list(tmp_path.iterdir())
