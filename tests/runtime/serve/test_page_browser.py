"""The page in a real browser: a photograph is dropped, and where it was taken is shown; nothing else is asked."""

from __future__ import annotations

import base64
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gloam.data.town import TownConfig
from gloam.runtime.descriptors.store import DescriptorStore
from gloam.runtime.search.index import build_index
from gloam.runtime.serve import run
from gloam.runtime.serve.options import ServeRequest
from tests.runtime.serve.towns import MODEL, ONE, write_served
from tests.workflows.reports.page.test_browser import browser  # noqa: F401  # a fixture

pytestmark = pytest.mark.browser

TOWN = TownConfig(
    seed=5, length=40.0, width=384, height=288, focal=315, queries=2, spacing=4.0, conditions=("day", "night")
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, list[str]]]:
    """Address, folder of the queries' images, and their names."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium and chromedriver are not installed")
    folder = tmp_path_factory.mktemp("page")
    query = write_served(folder, TOWN)
    build_index(DescriptorStore.open(folder / "mapping"), folder / "index")
    images = folder / "town" / "mapping" / "sensors" / "records_data"
    request = ServeRequest(MODEL, folder / "index", folder / "map", images=images, port=0, placement=ONE)
    said, made = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "to_stderr", said.append)
        server = run.uvicorn.Server
        patch.setattr(run.uvicorn, "Server", lambda config: made.append(server(config)) or made[0])
        thread = threading.Thread(target=run.serve, args=(request,))
        thread.start()
        while not (made and made[0].started):
            time.sleep(0.05)
        yield said[0].partition(": ")[0], query.image_folder, query.names
        made[0].should_exit = True
        thread.join(20)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_photograph_is_found(
    browser: Any,  # noqa: F811  # the fixture
    served: tuple[str, Path, list[str]],
    tmp_path: Path,
    width: int,
    theme: str,
) -> None:
    address, folder, names = served
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    until(browser, "return document.getElementById('facts').textContent", "an index of")
    browser.find_element("id", "file").send_keys(str(folder / names[0]))
    until(browser, "return document.getElementById('said').textContent", "Localized: ")
    until(browser, "return document.getElementById('counts').textContent", "is left,")
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.card')].filter(card => !card.hidden).map(card => card.id)"
    )
    assert shown == ["answer", "mapcard", "matchcard", "similarcard"]
    for canvas in ("map", "matches"):
        colours = browser.execute_script(
            f"const c = document.getElementById('{canvas}');"
            "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            "return new Set(Array.from({length: d.length / 4}, (_, i) => d[4*i] << 16 | d[4*i+1] << 8 | d[4*i+2])).size"
        )
        assert colours > 20, canvas
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    whole = {"captureBeyondViewport": True, "format": "png"}
    picture = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", whole)["data"])
    (tmp_path / "page.png").write_bytes(picture)
    assert len(picture) > 10_000
    browser.find_element("id", "file").send_keys(str(Path(__file__)))
    until(browser, "return document.getElementById('said').textContent", "not an image")
    refused = [entry for entry in browser.get_log("browser") if "422" not in entry["message"]]
    assert refused == []
    asked = [entry["message"] for entry in browser.get_log("performance") if 'requestWillBeSent"' in entry["message"]]
    assert not [message for message in asked if '"url":"http' in message and f'"url":"{address}' not in message]


def until(browser: Any, script: str, part: str) -> None:  # noqa: F811  # the fixture's name
    patience = time.monotonic() + 30
    while part not in (text := browser.execute_script(script)):
        assert time.monotonic() < patience, text
        time.sleep(0.05)
