"""The pages in a real browser: nothing fails to load, nothing is empty, nothing overflows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gloam.eval.localization.localize import Localization
from gloam.workflows.reports.page.write import write_report
from gloam.workflows.reports.queries import write_query_report
from gloam.workflows.reports.training import write_training_report
from tests.workflows.reports.page.page_data import full_report, photographs
from tests.workflows.reports.test_queries import found as found  # a fixture
from tests.workflows.reports.training_data import write_embedder_run

pytestmark = pytest.mark.browser

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
FAMILIES = """
const family = node => getComputedStyle(node).fontFamily;
return [...document.querySelectorAll('h1, h2, h3, p, td, .answer, svg text')].map(family)"""
SHOWN = """
document.querySelectorAll('details').forEach(item => { item.open = true });
return [...document.querySelectorAll('img, svg')].map(item => {
  const box = item.getBoundingClientRect();
  return [item.tagName, box.width, box.height, item.tagName !== 'IMG' || item.naturalWidth > 0]})"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, found: Localization) -> dict[str, Path]:
    """A page of every kind."""
    folder = tmp_path_factory.mktemp("pages")
    write_report(full_report(photographs(folder / "photos")), folder / "report.html")
    return {
        "report": folder / "report.html",
        "queries": write_query_report(found),
        "training": write_training_report(write_embedder_run(folder / "run")),
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize(("page", "images", "drawings"), [("report", 28, 16), ("queries", 11, 2), ("training", 2, 4)])
def test_page_is_shown_whole(
    browser: Any, pages: dict[str, Path], page: str, images: int, drawings: int, width: int, theme: str, tmp_path: Path
) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(pages[page].as_uri())

    assert browser.get_log("browser") == []
    requests = [
        entry["message"] for entry in browser.get_log("performance") if 'requestWillBeSent"' in entry["message"]
    ]
    assert not [message for message in requests if '"url":"http' in message]
    if page == "report":
        bottom = browser.execute_script("return document.querySelector('.answer').getBoundingClientRect().bottom")
        assert 0 < bottom < 844, "the answer is not on the first screen"
    shown = browser.execute_script(SHOWN)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len([item for item in shown if item[0] == "IMG"]) == images
    assert len([item for item in shown if item[0] == "svg"]) >= drawings
    assert all(box_width > 0 and box_height > 0 and loaded for _, box_width, box_height, loaded in shown)
    for target in browser.execute_script("return [...document.querySelectorAll('nav a')].map(item => item.hash)"):
        assert not target or browser.execute_script("return document.querySelector(arguments[0]) !== null", target)
    assert len(set(browser.execute_script(FAMILIES))) == 1  # one family for all text
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 80) == (theme == "dark")
    browser.save_screenshot(str(tmp_path / "page.png"))
    assert (tmp_path / "page.png").stat().st_size > 10_000
