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

from worker.cli import output
from worker.cli.exits import FAILED
from worker.cli.output import Output, OutputOption
from worker.cli.screen import Answer, frame
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
    with suppress(KeyboardInterrupt):
        if once:
            answers = asyncio.run(_look_once(urls))
            _write(answers, output_format)
            if any(answer.status is None for answer in answers):
                raise typer.Exit(FAILED)
        else:
            asyncio.run(_look_again_and_again(urls, interval, output_format))


async def _look_once(urls: Sequence[str]) -> list[Answer]:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        return await _look(http, urls)


async def _look_again_and_again(urls: Sequence[str], interval: float, output_format: Output) -> None:
    terminal = output.console()
    is_live = output_format is Output.TEXT and terminal.is_terminal
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        with Live(console=terminal, screen=True, auto_refresh=False) if is_live else nullcontext() as live:
            while True:
                answers = await _look(http, urls)
                if live is None:
                    _write(answers, output_format)
                else:
                    live.update(frame(answers, terminal.height), refresh=True)
                await asyncio.sleep(interval)


async def _look(http: aiohttp.ClientSession, urls: Sequence[str]) -> list[Answer]:
    return await asyncio.gather(*(_ask(http, url) for url in urls))


async def _ask(http: aiohttp.ClientSession, url: str) -> Answer:
    try:
        async with http.get(f"{url.rstrip('/')}/status") as response:
            if response.status != _OK:
                return Answer(url, None, _refusal(response.status))
            return Answer(url, Status.model_validate_json(await response.read()), "")
    except TimeoutError:
        return Answer(url, None, f"does not answer within {_TIMEOUT.total:g} s")
    except ValidationError:
        return Answer(url, None, "answers, but not as a worker of this version")
    except aiohttp.ClientConnectorError as exc:
        why = os.strerror(exc.os_error.errno) if exc.os_error.errno else exc.os_error.strerror
        return Answer(url, None, f"cannot be reached: {why}")
    except (aiohttp.ClientError, ValueError) as exc:
        return Answer(url, None, f"cannot be asked: {exc}")


def _refusal(status: int) -> str:
    if status == _MISDIRECTED:
        return "wants to be asked by its address, or by a name in its WORKER_HTTP__ALLOWED_HOSTS"
    return f"answers HTTP {status}: is that a worker?"


def _write(answers: Sequence[Answer], output_format: Output) -> None:
    if output_format is Output.TEXT:
        output.console().print(frame(answers))
        return
    for answer in answers:
        status = None if answer.status is None else answer.status.model_dump(mode="json")
        output.json_line({"url": answer.url, "status": status, "problem": answer.problem})
