"""The status page, in a real browser."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, expect

from devkit import ROOT
from tests.observe.statuses import BUSY, MIB, job
from worker.observe import web
from worker.observe.status import State, Status

# One browser for all of them, and so one event loop.
pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<img src=x onerror=alert(1)>"


class Shown:
    """A server of the page, whose status the test decides."""

    def __init__(self) -> None:
        self.status = BUSY
        self.stack = AsyncExitStack()
        self.url = ""

    async def read(self) -> Status:
        return self.status


@pytest_asyncio.fixture(loop_scope="module")
async def shown() -> AsyncIterator[Shown]:
    made = Shown()
    async with made.stack:
        server = web.serve("127.0.0.1", 0, checks={}, render=lambda: b"", status=made.read)
        made.url = f"http://127.0.0.1:{await made.stack.enter_async_context(server)}/"
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, shown: Shown) -> AsyncIterator[Page]:
    """The page in a narrow window; it must not complain on the console, as it does of a breach of its CSP."""
    complaints: list[str] = []
    opened = await browser.new_page(viewport={"width": 360, "height": 740})
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    await opened.goto(shown.url)
    await expect(opened.get_by_role("heading", level=1)).to_have_text(BUSY.host)
    yield opened
    assert [text for text in complaints if "ERR_CONNECTION" not in text] == []


async def test_the_page_says_what_the_status_says(page: Page) -> None:
    await expect(page).to_have_title("paused · ccfs-worker-7d9f · ccfs-worker")
    await expect(page.get_by_role("status")).to_have_text("paused: storage")
    await expect(page.locator("#checks")).to_contain_text("✓ broker")
    await expect(page.locator("#checks")).to_contain_text("✗ intake")
    reasons = page.locator("#reasons")
    await expect(reasons).to_contain_text("storage: 7 bytes are free and 256 are to stay free for 12 min")
    await expect(reasons.get_by_role("link", name="runbook")).to_have_attribute(
        "href", f"{BUSY.runbook}#ccfsworkerintakepaused"
    )
    tiles = page.locator("#tiles")
    for text in ("151/s", "0.3/s", "0.5/s deferred", "3.3 MiB/s", "123,456 since the start", "7.0 GiB"):
        await expect(tiles).to_contain_text(text)
    await expect(tiles).to_contain_text(
        "up to 4 of 16 downloads: asked to slow down: CC-FS answered HTTP 429"
    )
    hour = tiles.get_by_role("img", name=re.compile("Failed by the minute in the last hour: 8 in all"))
    await expect(hour.locator(".failed")).to_have_count(8)
    jobs = page.get_by_role("table", name="In hand")
    await expect(jobs).to_contain_text("20260131_9239cb50a8384bb0ab503441bf000001.zip")
    await expect(jobs).to_contain_text("3.0 MiB of 12.0 MiB")
    await expect(jobs).to_contain_text("publishing: no queue takes 'failed'")
    await expect(jobs.get_by_role("progressbar").first).to_have_js_property("value", 3 * MIB)
    codes = page.get_by_role("table", name="Errors since the start")
    await expect(codes.get_by_role("row", name="TIMEOUT")).to_have_text(re.compile(r"TIMEOUT\s*40\s*0"))
    accounts = page.get_by_role("table", name="Accounts")
    await expect(accounts.get_by_role("row", name="app1")).to_have_text(re.compile(r"app1\s*2\s*1\s*0\s*12"))
    await expect(accounts.get_by_role("row", name="app7")).to_have_text(
        re.compile(r"app7\s*0\s*0\s*1,234\s*0")
    )
    await expect(accounts).to_contain_text(
        "UNAUTHORIZED for 2 h: CC-FS answered HTTP 401; tried 30 s ago, fails in 10 h"
    )
    failures = page.get_by_role("list", name="Last failures").get_by_role("listitem")
    await expect(failures.first).to_contain_text("FILE_NOT_FOUND")
    await expect(failures.first).to_contain_text("3 min ago")
    await expect(failures.first).to_contain_text("app1 · 20260131_gone0.zip")


async def test_the_page_says_until_when_messages_wait(page: Page, shown: Shown) -> None:
    async def until(queue: str, text: str) -> None:
        row = page.get_by_role("table", name="Waiting in RabbitMQ").get_by_role(
            "row", name=re.compile(rf"^{re.escape(queue)} \d")
        )
        await expect(row).to_contain_text(text)

    await until("ccfs.jobs", "1,200intake is open again")
    await until("ccfs.jobs.retry.10s", "each back within 10 s")
    await until("ccfs.dead", "replayed or discarded")
    for change, text in (
        (-2.5, "empty in about 8 min"),
        (12.0, "growing by 12/s"),
        (0.0, "not getting fewer"),
    ):
        queues = BUSY.queues.model_copy(update={"jobs_per_second": change})
        intake = BUSY.intake.model_copy(update={"pauses": {}})
        shown.status = BUSY.model_copy(update={"queues": queues, "intake": intake})
        await until("ccfs.jobs", text)


async def test_old_numbers_look_old(page: Page, shown: Shown) -> None:
    queues = BUSY.queues.model_copy(update={"age_seconds": 300.0})
    shown.status = BUSY.model_copy(update={"queues": queues})
    await expect(page.get_by_text("as it was 5 min ago")).to_be_visible()
    await expect(page.locator("#queues td").first).to_have_css("font-style", "italic")
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def test_a_worker_of_an_earlier_release_has_a_page(page: Page, shown: Shown) -> None:
    """What its status lacks is not shown, and nothing else is missing."""
    plain = {"minutes": [], "accounts": [], "failures": [], "runbook": ""}
    queues = BUSY.queues.model_copy(update={"roles": {}, "jobs_per_second": None})
    shown.status = BUSY.model_copy(update=plain | {"queues": queues})
    await expect(page.locator("#no-accounts")).to_be_visible()
    await expect(page.get_by_role("link", name="runbook")).to_have_count(0)
    await expect(page.locator("#queues")).to_contain_text("1,200")


async def test_the_first_screen_has_it_all(page: Page) -> None:
    """State, rates, queues, accounts and failures, before anything in hand."""
    await page.set_viewport_size({"width": 1280, "height": 900})
    for title in ("Waiting in RabbitMQ", "Accounts", "Last failures", "In hand"):
        box = await page.get_by_role("heading", name=title).bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900


async def test_the_page_keeps_up(page: Page, shown: Shown) -> None:
    shown.status = BUSY.model_copy(update={"state": State.WORKING, "jobs": []})
    await expect(page.get_by_role("status")).to_have_text("working")
    await expect(page.get_by_text("Nothing.")).to_be_visible()
    await expect(page.locator("#jobs")).to_be_hidden()


async def test_the_page_says_when_the_worker_is_gone(page: Page, shown: Shown) -> None:
    await shown.stack.aclose()
    await expect(page.get_by_role("status")).to_have_text(re.compile("does not answer"))


async def test_a_name_is_never_markup(page: Page, shown: Shown) -> None:
    hostile = {"app_id": HOSTILE, "bill_file_name": HOSTILE, "job_id": HOSTILE, "problem": HOSTILE}
    shown.status = BUSY.model_copy(update={"host": HOSTILE, "jobs": [job(1, **hostile)]})
    await expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert await page.locator("img").count() == 0


@pytest.mark.parametrize("width", [360, 1280])
async def test_nothing_needs_scrolling_sideways(page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 740})
    overflow = await page.evaluate(
        "() => [...document.querySelectorAll('body, body *')]"
        ".filter((element) => element.getBoundingClientRect().right > innerWidth + 1)"
        ".filter((element) => !element.closest('#jobs thead'))"
        ".map((element) => element.outerHTML)"
    )
    assert overflow == []
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
async def test_everybody_can_read_it(page: Page, width: int, scheme: str) -> None:
    """axe-core finds no breach of WCAG: contrast, names, structure."""
    await page.set_viewport_size({"width": width, "height": 740})
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


async def test_its_links_into_the_runbook_lead_somewhere() -> None:
    page = (ROOT / "worker/observe/page.html").read_text()
    (table,) = re.findall(r"const RUNBOOK = {(.*?)};", page, re.DOTALL)
    places = re.findall(r'"([\w-]+)"', table)
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert places
    assert set(places) <= {heading.lower().replace(" ", "-") for heading in headings}


async def test_the_page_allows_itself_nothing_from_elsewhere(browser: Browser, shown: Shown) -> None:
    page = await browser.new_page()
    response = await page.goto(shown.url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    source = await response.text()
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", source) == ["data:,", "status", "status", "metrics"]
