"""`ccfs-worker simulate`: a CC-FS to try the worker with."""

import asyncio
import os
import re
import secrets
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.table import Table

from worker.cli.exit_codes import SETTINGS
from worker.observe import logs
from worker.runtime import loop_factory
from worker.simulator import (
    MIN_BILL_BYTES,
    AnsweredRequest,
    Packing,
    Range,
    Simulator,
    SimulatorOptions,
    faults,
    open_simulator,
    parse_fault,
)

ENV_FILE = "simulator.env"
"""The file, in the state directory, with a worker's settings towards a simulator that is up."""

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMG]?)(?:iB|B)?", re.IGNORECASE)
_ACCOUNTS = ("app1", "app2")
_T = TypeVar("_T")

log = structlog.stdlib.get_logger(__name__)


class _WrongArgumentError(Exception):
    """An argument cannot be used; the text says which and why, as one line."""


def simulate(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8443,
    plain: Annotated[bool, typer.Option("--plain", help="HTTP instead of HTTPS.")] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A host name or address more that the certificate is for. Repeatable."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            help=f"Directory for the certificate and {ENV_FILE}; kept between runs. "
            "Default: one of the user's own.",
            show_default=False,
        ),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="Key directory, one file per appId, as the worker's own. "
            f"Default: STATE/keys, with new keys for {' and '.join(_ACCOUNTS)}.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Size of the files: 64KiB, 10KiB-4MiB, or with a weight, 1GiB:0.01. Repeatable.",
        ),
    ] = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="Don't deflate inside the zips: to measure only the transfer.")
    ] = False,
    missing: Annotated[
        list[str] | None,
        typer.Option(help="Files that do not exist, by name or shell pattern: *-gone.zip. Repeatable."),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="What goes wrong and how often, KIND[,OPTION=VALUE]:RATE. Repeatable. Kinds: "
            + ", ".join(faults.KINDS)
        ),
    ] = None,
    list_faults: Annotated[
        bool, typer.Option("--list-faults", help="Explain the kinds of faults, and end.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed: other files, other sizes, other faults.")] = 0,
    latency: Annotated[str, typer.Option(help="Seconds before an answer: 0.2 or 0.1-2.")] = "0",
    bandwidth: Annotated[
        str | None, typer.Option(help="Bytes per second of each answer: 1MiB.", show_default=False)
    ] = None,
    per_app: Annotated[
        int | None,
        typer.Option(
            help="Concurrent downloads of one account; more get 0300008.", min=1, show_default=False
        ),
    ] = None,
    skew: Annotated[
        float, typer.Option(help="Seconds that a signature's time may differ from the clock here.", min=0)
    ] = 900,
    host_header: Annotated[
        str | None, typer.Option(help="The only Host that requests may have.", show_default=False)
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
) -> None:
    """Run a CC-FS to try things with: it checks signatures, serves made-up bills, and fails as configured."""
    if list_faults:
        table = Table("kind", "option=default", "what happens", box=None)
        for kind in faults.explain():
            defaults = " ".join(f"{name}={default}" for name, default in kind.options.items())
            table.add_row(kind.name, defaults, kind.meaning)
        Console().print(table)
        return
    try:
        home = state or Path(typer.get_app_dir("ccfs-simulator"))
        options = SimulatorOptions(
            keys=_key_directory(keys, home),
            host=host,
            port=port,
            plain=plain,
            names=(*SimulatorOptions.names, *(name or ())),
            state=home,
            max_skew=skew,
            host_header=host_header,
            sizes=_parsed("--size", parse_sizes, *(size or ["64KiB"])),
            packing=Packing.STORED if stored else Packing.DEFLATED,
            missing=tuple(missing or ()),
            seed=seed,
            latency=_parsed("--latency", parse_seconds, latency)[0],
            bandwidth=_parsed("--bandwidth", parse_size, bandwidth)[0] if bandwidth else None,
            downloads_per_app=per_app,
            faults=_parsed("--fault", parse_fault, *(fault or ())),
            # The history is for tests; here it would grow for as long as the simulator runs.
            history=0,
            on_answer=_log,
        )
    except (_WrongArgumentError, ValueError) as exc:
        _give_up(exc)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(options, home, level="WARNING" if quiet else "INFO"))
    except _WrongArgumentError as exc:
        _give_up(exc)


def _give_up(reason: Exception) -> NoReturn:
    typer.echo(reason, err=True)
    raise typer.Exit(SETTINGS)


def _log(request: AnsweredRequest) -> None:
    log.info(
        "simulator.answered",
        answer=request.answer,
        app_id=request.app_id,
        bill_file_name=request.bill_file_name,
        **({"reason": request.reason} if request.reason else {}),
    )


async def _serve(options: SimulatorOptions, state: Path, *, level: str) -> None:
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    with _os_errors(f"--host, --port, --state: cannot serve {options.host}:{options.port} out of {state}"):
        async with open_simulator(options) as simulator:
            logs.configure(level=level, json=False)
            with _announced(simulator, options.keys, state / ENV_FILE):
                await signalled.wait()


@contextmanager
def _announced(simulator: Simulator, keys: Path, env_file: Path) -> Iterator[None]:
    """Say how to reach the simulator, and keep it in a file for as long as it is up."""
    settings = {"WORKER_CCFS__BASE_URL": simulator.url, "WORKER_CREDENTIALS__DIR": str(keys.absolute())}
    if simulator.ca_file is not None:
        settings["WORKER_CCFS__CA_FILE"] = str(simulator.ca_file.absolute())
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    env_file.parent.mkdir(parents=True, exist_ok=True)
    # Renamed into place: a script that waits for the file must not read half of it.
    unfinished = env_file.with_suffix(".part")
    unfinished.write_text(lines)
    unfinished.replace(env_file)
    typer.echo(f"CC-FS simulator at {simulator.url} (Ctrl-C ends it)\n\n{lines}\n(also in {env_file})")
    try:
        yield
    finally:
        env_file.unlink(missing_ok=True)


def _key_directory(given: Path | None, state: Path) -> Path:
    if given is not None:
        if not given.is_dir():
            raise _WrongArgumentError(f"--keys: {given} is no directory; it must hold one file per appId")
        return given
    directory = state / "keys"
    with _os_errors(f"--state: cannot keep keys in {directory}"):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not any(directory.iterdir()):
            for account in _ACCOUNTS:
                (directory / account).touch(mode=0o600)
                (directory / account).write_text(f"{secrets.token_hex(16)}\n")
    return directory


@contextmanager
def _os_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _WrongArgumentError(f"{what}: {os.strerror(exc.errno) if exc.errno else exc}") from exc


def _parsed(option: str, parse: Callable[[str], _T], *texts: str) -> tuple[_T, ...]:
    try:
        return tuple(parse(text) for text in texts)
    except ValueError as exc:
        raise _WrongArgumentError(f"{option}: {exc}") from None


def parse_size(text: str) -> float:
    """Read a number of bytes: `4096`, `64KiB`, `1.5GiB`.

    Raises:
        ValueError: It is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"{text}: must be a size such as 4096, 64KiB, 10MiB or 1GiB")
    return float(found[1]) * _UNITS[found[2].upper()]


def parse_sizes(text: str) -> Range:
    """Read one size or two, and a weight: `64KiB`, `10KiB-4MiB`, `1GiB:0.01`.

    Raises:
        ValueError: It is none of these.
    """
    sizes, colon, weight = text.partition(":")
    low, high = _span(text, sizes, parse_size)
    if low < MIN_BILL_BYTES:
        raise ValueError(f"{text}: no file can have less than {MIN_BILL_BYTES} bytes")
    return Range(low, high, _number(weight) if colon else 1.0)


def parse_seconds(text: str) -> Range:
    """Read one number of seconds or two: `0.2`, `0.1-2`.

    Raises:
        ValueError: It is none of these.
    """
    low, high = _span(text, text, _number)
    if low != high and not low:
        raise ValueError(f"{text}: a range must begin above 0")
    return Range(low, high)


def _span(text: str, span: str, parse: Callable[[str], float]) -> tuple[float, float]:
    low, dash, high = span.partition("-")
    first, last = parse(low), parse(high if dash else low)
    if last < first:
        raise ValueError(f"{text}: a range goes from the smaller to the larger")
    return first, last


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ValueError(f"{text or 'nothing'}: must be a number, 0 or more")
    return number
