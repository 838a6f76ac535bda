"""A result tells its answer where it is printed, and shows as a table in a notebook."""

from typing import get_args, get_type_hints
from xml.etree import ElementTree

import pytest

import ebjr_det
from ebjr_det import BenchmarkSettings, FitSettings, StatedMix, Target
from ebjr_det.reporting.overview import PrintedResult

QUICK = ["data.limit=120", "latency.measure=false", "run.bootstrap=5"]
VERBS = ("evaluate", "replay", "report", "compare", "calibrate", "fit_router", "benchmark", "traffic")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of digits, one of them with a title that would act on a page."""
    folder, results = tmp_path_factory.mktemp("shown"), []
    for score, title in (("margin", "Digits"), ("entropy", "<script>alert(1)</script> & *more*")):
        config = ebjr_det.load_config("digits", [*QUICK, f"router.score={score}"])
        results.append(ebjr_det.evaluate(config.model_copy(update={"title": title}), folder / score))
    return results


def fitted(runs):
    path = runs[0].folder.parent / "router.safetensors"
    return ebjr_det.fit_router(runs[0].folder, path, FitSettings(folds=2, replicates=5))


def timed(runs):
    settings = BenchmarkSettings(rates=(0.5,), images=8, batch_sizes=(1,), seconds=0.05)
    return ebjr_det.benchmark(ebjr_det.load_config("digits"), runs[0].folder.parent / "timed", settings)


MAKERS = {
    "evaluate": lambda runs: runs[0],
    "title": lambda runs: runs[1],
    "compare": lambda runs: ebjr_det.compare([run.folder for run in runs], runs[0].folder.parent / "both"),
    "calibrate": lambda runs: ebjr_det.calibrate(runs[0].folder, Target("deferral_rate", 0.2)),
    "fit_router": fitted,
    "traffic": lambda runs: ebjr_det.traffic(
        [runs[0].folder], runs[0].folder.parent / "mix", StatedMix([0, 1], 0.7), replicates=5
    ),
    "benchmark": timed,
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_answers_returns_one_that_prints(verb):
    hint = get_type_hints(getattr(ebjr_det, verb))["return"]
    assert all(issubclass(kind, PrintedResult) for kind in get_args(hint) or (hint,))


@pytest.mark.parametrize("maker", MAKERS)
def test_it_prints_in_few_lines_and_shows_as_the_same_table(maker, runs):
    result = MAKERS[maker](runs)
    overview, text = result.overview(), repr(result)
    lines = text.splitlines()
    assert str(result) == text
    assert len(lines) <= 8 + len(overview.table.rows) + 8
    assert all(len(line) <= 88 for line in lines[: len(lines) - 2])
    assert " ".join(lines).startswith(overview.sentence)
    page = ElementTree.fromstring(f"<div>{result._repr_html_()}</div>")
    cells = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert cells == [list(overview.table.columns), *map(list, overview.table.rows)]
    assert {element.tag for element in page.iter()} <= set(
        "div p strong table caption thead tbody tr th td code".split()
    )
    for row in overview.table.rows:
        for cell in row:
            assert all(word in text for word in cell.split())


def test_the_answer_names_the_page(runs):
    assert repr(runs[0]).endswith(str(runs[0].folder / "report.html"))
    assert runs[0].overview().place.is_file()
