"""`ccfs-worker top`: what workers do right now."""

import asyncio
import os
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Annotated

import aiohttp
import typer
from pydantic import ValidationError
from rich.live import Live

from worker.cli import terminal
from worker.cli.exit_codes import FAILED
from worker.cli.screen import frame
from worker.cli.status_tables import StatusAnswer
from worker.cli.terminal import Output, OutputOption
from worker.observe.status import Status

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_HERE = "http://127.0.0.1:8080"
_OK = 200
_MISDIRECTED = 421


def top(
    *,
    workers: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[URL]...",
            help="Where workers listen, `http://host:port` or `host:port`; if none, port 8080 here.",
            show_default=False,
        ),
    ] = None,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Show what workers do: state, rates, queues, error codes, and how far each job in flight has come.

    Refreshes until Ctrl-C. As JSON, each look writes one line for each worker: its url, its status (that of
    GET /status) or null, and the problem if it did not answer. With --once, ends with 1 when one did not.

    Examples:
        ccfs-worker top
        ccfs-worker top 10.1.2.3:8080 10.1.2.4:8080
        ccfs-worker top --once --output json | jq .status.intake
    """
    urls = [url if "://" in url else f"http://{url}" for url in workers or [_HERE]]
    # Ctrl-C is how a person ends this: no error, and not the exit code of one.
    with suppress(KeyboardInterrupt):
        answers = asyncio.run(_watch(urls, None if once else interval, output_format))
        if any(answer.status is None for answer in answers):
            raise typer.Exit(FAILED)


async def _watch(urls: Sequence[str], interval: float | None, output_format: Output) -> list[StatusAnswer]:
    """Show what the workers say, again and again; without an `interval` once, and gives that."""
    screen = terminal.console()
    is_live = interval is not None and output_format is Output.TEXT and screen.is_terminal
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        with Live(console=screen, screen=True, auto_refresh=False) if is_live else nullcontext() as live:
            while True:
                answers = await asyncio.gather(*(_ask(http, url) for url in urls))
                if live is None:
                    _write(answers, output_format)
                else:
                    live.update(frame(answers, screen.width, screen.height), refresh=True)
                if interval is None:
                    return answers
                await asyncio.sleep(interval)


async def _ask(http: aiohttp.ClientSession, url: str) -> StatusAnswer:
    try:
        async with http.get(f"{url.rstrip('/')}/status") as response:
            if response.status == _OK:
                return StatusAnswer(url, Status.model_validate_json(await response.read()), "")
            problem = f"answers HTTP {response.status}: is that a worker?"
            if response.status == _MISDIRECTED:
                problem = "wants to be asked by its address, or by a name in its WORKER_HTTP__ALLOWED_HOSTS"
    except TimeoutError:
        problem = f"does not answer within {_TIMEOUT.total:g} s"
    except ValidationError:
        problem = "answers, but not as a worker of this version"
    except aiohttp.ClientConnectorError as exc:
        why = os.strerror(exc.os_error.errno) if exc.os_error.errno else exc.os_error.strerror
        problem = f"cannot be reached: {why}"
    except (aiohttp.ClientError, ValueError) as exc:
        problem = f"cannot be asked: {exc}"
    return StatusAnswer(url, None, problem)


def _write(answers: Sequence[StatusAnswer], output_format: Output) -> None:
    if output_format is Output.TEXT:
        screen = terminal.console()
        screen.print(frame(answers, screen.width))
        return
    for answer in answers:
        status = None if answer.status is None else answer.status.model_dump(mode="json")
        terminal.json_line({"url": answer.url, "status": status, "problem": answer.problem})
