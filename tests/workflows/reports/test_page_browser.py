"""The page in a real browser: nothing fails to load, nothing is empty, nothing overflows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gloam.workflows.reports.page import write_report
from tests.workflows.reports.page_data import full_report, photographs

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


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_shown_whole(browser: Any, tmp_path: Path, width: int, theme: str) -> None:
    page = tmp_path / "report.html"
    write_report(full_report(photographs(tmp_path / "photos")), page)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())

    assert browser.get_log("browser") == []
    requests = [
        entry["message"] for entry in browser.get_log("performance") if 'requestWillBeSent"' in entry["message"]
    ]
    assert not [message for message in requests if '"url":"http' in message]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = browser.execute_script(
        "return [...document.querySelectorAll('img, svg')].map(item => {"
        "const box = item.getBoundingClientRect();"
        "return [item.tagName, box.width, box.height, item.tagName !== 'IMG' || item.naturalWidth > 0]})"
    )
    assert len([item for item in shown if item[0] == "IMG"]) == 4 * 6
    assert len([item for item in shown if item[0] == "svg"]) >= 16
    assert all(box_width > 0 and box_height > 0 and loaded for _, box_width, box_height, loaded in shown)
    bottom = browser.execute_script("return document.querySelector('.answer').getBoundingClientRect().bottom")
    assert 0 < bottom < 844, "the answer is not on the first screen"
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 80) == (theme == "dark")
    browser.save_screenshot(str(tmp_path / "report.png"))
    assert (tmp_path / "report.png").stat().st_size > 10_000
