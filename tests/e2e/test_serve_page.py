"""The page of a server in a real browser: desktop and phone, both tasks, without any other address."""

from pathlib import Path

import pytest
from test_page import DESKTOP, PHONE, axe, browser, expect, pytestmark  # noqa: F401

import ebjr_det


@pytest.fixture
def opened(browser):  # noqa: F811
    """A function: address, options of a browser context -> the page; nothing else may be asked for."""
    contexts, troubles = [], []

    def open_page(address, allowed="nothing", **options):
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.extend([message.text] * (allowed not in message.text)))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: troubles.extend(elsewhere(request.url, address)))
        page.goto(address)
        page.wait_for_selector("body[data-ready]")
        return page

    def elsewhere(url, address):
        return [] if url.startswith((address, "data:", "blob:")) else [url]

    yield open_page
    for context in contexts:
        context.close()
    assert not troubles


def test_pictures_the_slider_and_the_running_share(opened, routed_digits, digit_pictures, served_at):
    pair, paths = ebjr_det.load(routed_digits), sorted(digit_pictures.iterdir())
    scores = [float(pair([path]).decision.scores[0]) for path in paths]
    with served_at(routed_digits) as address:
        page = opened(address)
        assert page.text_content("h1") == "Handwritten digits, two ResNets"
        page.set_input_files("#files", [str(path) for path in paths])
        expect(page.locator("#count")).to_have_text("12")
        sent = sum(score > pair.threshold for score in scores)
        expect(page.locator("#share")).to_have_text(f"{100 * sent / 12:.1f} %")
        last = pair([paths[-1]])
        expect(page.locator("#pair-answer")).to_contain_text(f"{last.answered_by[0]} says")
        for value, share in (("0", "100.0 %"), ("1000", "0.0 %")):
            page.fill("#threshold", value)
            page.dispatch_event("#threshold", "change")
            expect(page.locator("#share")).to_have_text(share)
            expect(page.locator("#pair-answer")).to_contain_text("teacher" if value == "0" else "student")
        expect(page.locator("#decision")).to_contain_text("the student's answer stays")
        assert page.text_content("#cost") == f"{100 * 15312 / 1666688:.1f} %"
        assert page.text_content("#pair-ms").endswith(" ms")
        page.evaluate((Path(axe.__file__).with_name("axe.min.js")).read_text())
        findings = page.evaluate("axe.run().then(result => result.violations)")
        assert not [finding["id"] for finding in findings if finding["impact"] in ("serious", "critical")]


def test_boxes_on_a_phone_in_the_dark(opened, exported_scenes, scene_pictures, served_at):
    path = sorted(scene_pictures.iterdir())[0]
    with served_at(exported_scenes) as address:
        page = opened(address, viewport=PHONE, is_mobile=True, color_scheme="dark")
        page.set_input_files("#camera", str(path))
        expect(page.locator("#pair-answer")).to_contain_text("says")
        expect(page.locator("#student-answer")).to_contain_text("of at least 0.30")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.get_attribute("#camera", "capture") == "environment"


def test_what_is_no_picture_is_said_in_one_line(opened, exported_digits, served_at, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with served_at(exported_digits, name="mine") as address:
        page = opened(address, allowed="status of 400")
        page.set_input_files("#files", str(tmp_path / "a.png"))
        expect(page.locator("#fault")).to_contain_text("Expected a readable picture")
        assert page.text_content("#count") == "0"
