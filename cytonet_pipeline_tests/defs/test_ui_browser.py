"""The UI in a real browser, used as a person uses it: Debian's Chromium, driven by Playwright.

With `CYTONET_PICTURES=FOLDER` each test leaves a screenshot there; with `CYTONET_FINISHED=FOLDER` they run on a copy of
what `make demo` left in that folder, and not on the small pipeline.
"""

import os
from pathlib import Path

import pytest

from cytonet_pipeline.store import Store, Verdict
from cytonet_pipeline_tests.defs.ui_server import MISSING

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ui")]

CHROMIUM = Path("/usr/bin/chromium")
GROUPS = ("raw", "reference", "histology", "training", "evaluation")

WAIT_MS = 30_000
RUN_MS = 300_000


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no Playwright: pip install -c constraints.txt .[test]"
    )
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM} on this machine (apt-get install chromium)")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser, server):
    """A new window, at the start page of the UI."""
    opened = browser.new_page(viewport={"width": 1440, "height": 860}, base_url=server.url)
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()


def screenshot(page, name: str) -> None:
    """Leave a picture for people, if they have named a folder for them."""
    folder = os.environ.get("CYTONET_PICTURES")
    if folder:
        page.wait_for_timeout(4000)
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_partition(page, asset: str, partition: str) -> None:
    """Open the tab of an asset's page that shows one brain or encoder, and wait for what it says."""
    page.goto(f"/assets/{asset}?view=partitions&partition={partition}")
    page.get_by_text("what was done", exact=True).first.wait_for()


def row(page, key: str):
    """Return the row of the page's metadata under a key."""
    return page.locator("tr").filter(has=page.get_by_text(key, exact=True)).first


def test_the_asset_graph_opens_down_to_each_asset(page):
    page.set_viewport_size({"width": 1440, "height": 660})
    page.goto("/asset-groups?expanded=" + ",".join(f"global@global:{group}" for group in GROUPS))

    for asset in ("reference_space", "section_scans", "patch_index", "encoder", "area_maps", "metrics_table"):
        page.get_by_text(asset, exact=True).last.wait_for()

    page.get_by_text("Hide navigation").click()
    # Without the list beside it, and a double click lets the graph fit its window.
    page.get_by_placeholder("Jump to…").locator("xpath=following::button[1]").click()
    page.mouse.dblclick(700, 640)
    # Colours of the last materialisations come after the names.
    page.wait_for_load_state("networkidle")
    screenshot(page, "asset-graph")


def test_a_brain_is_materialised_from_its_page_and_its_run_watched_to_the_end(page, server):
    folder = Store(server.settings.store).section_scans(MISSING)
    assert not folder.exists()
    page.goto(f"/assets/section_scans?view=partitions&partition={MISSING}")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("View", exact=True).last.click()

    page.get_by_text("Success", exact=True).first.wait_for(timeout=RUN_MS)

    screenshot(page, "run")
    assert Verdict.read(folder).ok
    open_partition(page, "section_scans", MISSING)
    row(page, "what was done").get_by_text("computed in").wait_for()


def test_an_assets_page_shows_its_picture(page):
    open_partition(page, "section_scans", "B01")

    row(page, "contact sheet").get_by_text("[Show Markdown]").click()
    picture = page.locator("[role=dialog] img")
    picture.wait_for()

    assert picture.evaluate("image => image.complete && image.naturalWidth") > 400
    screenshot(page, "asset-page")
