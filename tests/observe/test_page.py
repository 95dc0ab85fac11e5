"""The status page, in a real browser."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from playwright.async_api import Browser, Page, expect

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
    await expect(page.get_by_role("status")).to_have_text(re.compile("paused: storage: 7 bytes are free"))
    await expect(page.locator("#checks")).to_contain_text("✓ broker")
    await expect(page.locator("#checks")).to_contain_text("✗ intake: paused: storage")
    figures = page.locator("#figures")
    for text in ("up to 4 of 16", "151/s", "0.3/s", "3.3 MiB/s", "123,456", "7.0 GiB"):
        await expect(figures).to_contain_text(text)
    jobs = page.get_by_role("table", name="In flight")
    await expect(jobs).to_contain_text("20260131_9239cb50a8384bb0ab503441bf000001.zip")
    await expect(jobs).to_contain_text("3.0 MiB of 12.0 MiB")
    await expect(jobs).to_contain_text("publishing: no queue takes 'failed'")
    await expect(jobs.get_by_role("progressbar").first).to_have_js_property("value", 3 * MIB)
    codes = page.get_by_role("table", name="Errors since the start")
    await expect(codes.get_by_role("row", name="TIMEOUT")).to_have_text(re.compile(r"TIMEOUT\s*40\s*0"))
    await expect(page.get_by_role("table", name="Waiting in RabbitMQ")).to_contain_text("1200")


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
