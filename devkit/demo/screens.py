"""Take pictures of what a worker shows of itself: its page, and `ccfs-worker top`."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

from playwright.async_api import async_playwright
from rich.console import Console

from devkit.run import programs
from worker.cli.screen import frame
from worker.cli.status_tables import StatusAnswer
from worker.observe.status import Status

_WIDTH, _HEIGHT = 1280, 900
_COLUMNS = 110
_LINES = 32
_TERMINAL = (
    "<body style='margin: 0; background: #111'><pre style='display: inline-block; margin: 0; padding: 16px; "
    "background: #111; color: #ddd; font: 14px/1.35 monospace'>{code}</pre></body>"
)


async def take(ports: Sequence[int], *, page: Path, top: Path) -> None:
    """Take both pictures now, as PNG files.

    Args:
        ports: Where workers listen on this machine; the page is that of the first.
        page: Where the picture of the page goes.
        top: Where that of `top` goes.
    """
    async with async_playwright() as playwright:
        # Chromium's own sandbox does not work as root, and nothing but our page is opened.
        browser = await playwright.chromium.launch(
            executable_path=programs.find("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        opened = await browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        await opened.goto(f"http://127.0.0.1:{ports[0]}/")
        await opened.get_by_role("table", name="Waiting in RabbitMQ").wait_for()
        await opened.screenshot(path=page)
        # Not on the same page: its policy lets no style of another in.
        opened = await browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        await opened.set_content(_TERMINAL.format(code=_top(ports)))
        await opened.locator("pre").screenshot(path=top)
        await browser.close()


def _top(ports: Sequence[int]) -> str:
    """What `ccfs-worker top` would have on its screen, as HTML."""
    answers = [StatusAnswer(f"http://127.0.0.1:{port}", _status(port), "") for port in ports]
    console = Console(width=_COLUMNS, file=io.StringIO(), record=True, force_terminal=True)
    console.print(frame(answers, _COLUMNS, _LINES))
    return console.export_html(inline_styles=True, code_format="{code}")


def _status(port: int) -> Status:
    with urlopen(f"http://127.0.0.1:{port}/status", timeout=10) as answer:
        return Status.model_validate(json.load(answer))
