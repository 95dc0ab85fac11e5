"""What looks at the worker from outside: Prometheus's own programs, and a browser."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from devkit.run import programs

_FLAGS = (
    # Chromium's own sandbox does not work as root, and nothing but our page is opened.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Patience, not speed: a wait ends as soon as what is waited for is there.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="session")
def promtool() -> str:
    return _program("promtool")


@pytest.fixture(scope="session")
def chromium() -> str:
    return _program("chromium")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        yield launched
        await launched.close()


def _program(name: str) -> str:
    try:
        return programs.find(name)
    except SystemExit as missing:
        pytest.skip(str(missing))
