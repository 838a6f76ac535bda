"""The page in a real browser, from a file, offline: slider, folds, phone, dark, print, keyboard, axe.

The browser is a Chromium of the system (`CHROMIUM`, else `chromium` or `google-chrome` on the path); without
one these tests are skipped by name. Expected texts are computed here from the run's `curve.json`.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ebjr_det.reporting import page

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
axe = pytest.importorskip("axe_playwright_python.base", reason="needs the package axe-playwright-python")

expect = sync_api.expect
BROWSER = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None
)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="needs a Chromium on the path"),
    # Playwright's own loop closes its pipes when the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command, drawn_once) -> Path:
    """A replay with all costs, a further model and a gallery of one picture: every part of the page."""
    folder, generator = tmp_path_factory.mktemp("page"), np.random.default_rng(0)
    labels = generator.integers(5, size=120)
    for name, hint in (("small", 1.5), ("large", 4.0), ("middle", 2.5)):
        np.save(folder / f"{name}.npy", generator.normal(size=(120, 5)) + hint * np.eye(5)[labels])
    np.save(folder / "labels.npy", labels)
    files = ["--student-logits", folder / "small.npy", "--teacher-logits", folder / "large.npy"]
    files += ["--labels", folder / "labels.npy", "--reference", f"middle={folder / 'middle.npy'}:4e9:9"]
    costs = "--student-macs 1e9 --teacher-macs 9e9 --student-ms 3 --teacher-ms 20 --bootstrap 20".split()
    out = folder / "run"
    assert command("replay", "classification", *files, *costs, "--rates", "0.3", "--out", out) == 0
    Image.new("RGB", (900, 300), "orange").save(out / "strip.jpg")
    entry = {"image_id": "7", "file": "strip.jpg", "caption": "seven", "width": 900, "height": 300}
    group = {"title": "Gained most", "note": "The teacher is right.", "pictures": [entry, entry]}
    (out / "gallery.json").write_text(json.dumps({"legend": "Orange.", "groups": [group]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "draw_forms", drawn_once)
        assert command("report", out) == 0
    return out


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, run):
    """A function: options of a browser context -> the run's page, offline; nothing may be asked for."""
    contexts, troubles = [], []

    def open_page(**options):
        context = browser.new_context(offline=True, **({"viewport": DESKTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.extend(asked(request.url)))
        page.goto((run / "report.html").as_uri())
        return page

    def asked(address: str) -> list[str]:
        return [] if address.startswith("data:") or address.endswith("report.html") else [address]

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def texts(page) -> dict[str, str]:
    """The slider's readout by what it tells."""
    pairs = "nodes => nodes.map(n => [n.dataset.live, n.textContent])"
    return dict(page.eval_on_selector_all("[data-live]", pairs))


def mark(page) -> tuple[float, float]:
    """Where the mark stands in the wide figure."""
    place = page.get_attribute(".wide .mark circle", "transform")
    return tuple(float(number) for number in re.findall(r"[-\d.]+", place))


def test_the_slider_walks_through_the_runs_own_operating_points(opened, run):
    page, curve = opened(), json.loads((run / "curve.json").read_text())
    points, summary = curve["curves"][curve["score"]], json.loads((run / "summary.json").read_text())
    chosen = int(page.input_value("#point"))
    assert points["deferral_rate"][chosen] == summary["joint"]["deferral_rate"]
    assert page.locator("#back").is_disabled()
    places = []
    for index in (0, 7, chosen, len(points["quality"]) - 1):
        page.fill("#point", str(index))
        shown, quality = texts(page), points["quality"][index]
        assert shown["rate"] == f"{100 * points['deferral_rate'][index]:.2f} %"
        assert shown["quality"] == f"{100 * quality:.2f} %"
        assert shown["kept"] == f"{100 * quality / points['quality'][-1]:.1f} %"
        assert shown["macs"] == f"{points['macs'][index] / 1e9:#.4g} GMACs"
        assert shown["time"].startswith(f"~{points['latency_ms'][index]:#.3g}"[:5])
        threshold = points["threshold"][index]
        assert shown["exact"] == (repr(threshold) if threshold is not None else "-inf" if index else "inf")
        places.append(mark(page))
        assert page.get_attribute("#point", "aria-valuetext").startswith(f"{shown['rate']} to the teacher")
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert places[0][1] > places[-1][1]  # the teacher stands higher
    page.click("#back")
    assert mark(page) == places[2]
    expect(page.locator("output")).to_contain_text("to the teacher")


def test_the_mark_lies_on_the_figures_own_scale(opened):
    """At both ends of the curve it covers the marks that the figure itself has for student and pair."""
    page = opened()
    page.fill("#point", "0")
    distance = """() => {
      const middle = ({ x, y, width, height }) => [x + width / 2, y + height / 2];
      const at = (node) => middle(node.getBoundingClientRect());
      const [x, y] = at(document.querySelector(".wide .mark circle"));
      const uses = [...document.querySelectorAll(".wide use")].map(at);
      return Math.min(...uses.map(([u, v]) => Math.hypot(u - x, v - y)));
    }"""
    assert page.evaluate(distance) < 1
    page.click("#back")
    assert page.evaluate(distance) < 1


def test_keys_move_the_slider_and_a_month_is_billed_from_the_latencies(opened):
    page = opened()
    page.focus("#point")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.input_value("#point") == "1"
    page.fill("#point", "60")
    page.fill("#daily", "250000")
    page.fill("#price", "0.5")
    cells = page.eval_on_selector_all("[data-side]", "rows => rows.map(r => r.lastElementChild.textContent)")
    expected = [250_000 * 30.4 * ms / 3.6e6 * 0.5 for ms in (3, 3 + 20 * 60 / 120, 20)]
    assert cells == [f"{cost:,.2f}" for cost in expected]
    page.fill("#daily", "")
    assert page.eval_on_selector_all("td.monthly", "cells => cells.map(c => c.textContent)") == ["-"] * 3


def test_a_word_leads_into_the_folded_glossary(opened):
    page = opened()
    assert not page.locator("#words").get_attribute("open")
    page.click("a[href='#word-hull'] >> nth=0")
    expect(page.locator("#word-hull + dd")).to_be_visible()


def test_without_scripts_everything_but_the_slider_is_there(opened):
    page = opened(java_script_enabled=False)
    assert not page.locator("#point").is_visible()
    assert not page.locator("#daily").is_visible()
    assert page.locator(".wide svg").is_visible()
    assert texts(page)["macs"].endswith("GMACs")
    assert "machine hours for a million images" in page.locator("table.costs").inner_text()
    page.locator("summary", has_text="Deferral scores compared").click()
    assert page.locator("details[open] th", has_text="free_energy").first.is_visible()


@pytest.mark.parametrize("viewport", [PHONE, {"width": 700, "height": 900}, DESKTOP], ids=str)
def test_no_width_needs_sideways_scrolling_and_one_form_of_the_figure_shows(opened, viewport):
    page = opened(viewport=viewport)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    shown = [page.locator(f".{form} svg").is_visible() for form in ("wide", "narrow")]
    assert shown == [viewport is not PHONE, viewport is PHONE]
    letters = page.eval_on_selector_all(
        ".chart text", "nodes => nodes.map(n => n.getBoundingClientRect().height).filter(h => h > 0)"
    )
    assert min(letters) >= 10  # pixels of a line of text


def test_dark_and_light_have_their_own_colours_and_print_opens_the_folds(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert opened(color_scheme="light").evaluate(ground) == "rgb(255, 255, 255)"
    page = opened(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(21, 24, 28)"
    axis = "getComputedStyle(document.querySelector('.wide text')).fill"
    assert page.evaluate(axis) == "rgb(230, 233, 236)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate("[...document.querySelectorAll('.details > details')].every(fold => fold.open)")
    assert not page.locator("#point").is_visible()
    assert page.get_by_text("What single models mixed at random reach at each cost").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.evaluate("document.querySelector('.details > details').open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_serious(opened, scheme, viewport):
    page = opened(color_scheme=scheme, viewport=viewport)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    page.evaluate((Path(axe.__file__).with_name("axe.min.js")).read_text())
    findings = page.evaluate("axe.run().then(result => result.violations)")
    assert [(one["id"], one["impact"], one["nodes"][0]["html"][:90]) for one in findings] == []


def test_headings_step_down_one_level_at_a_time_and_the_page_is_small(opened, run):
    levels = [
        int(tag[1])
        for tag in opened().eval_on_selector_all("h1, h2, h3, h4", "all => all.map(h => h.tagName)")
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1
    assert (run / "report.html").stat().st_size < 3e6
