"""`ccfs-worker simulate`: a CC-FS to try the worker with."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import structlog
import typer
from rich.console import Console
from rich.table import Table

from worker.cli import terminal
from worker.cli.quantities import parse_number, parse_size, parse_span
from worker.cli.simulator_state import ACCOUNTS, ENV_FILE, announced, key_directory, naming_os_errors
from worker.cli.terminal import Output, OutputOption
from worker.observe import logs
from worker.runtime import loop_factory
from worker.settings import SettingsError
from worker.simulator import (
    MIN_BILL_BYTES,
    AnsweredRequest,
    Packing,
    Range,
    SimulatorOptions,
    fault_specs,
    open_simulator,
    parse_fault,
)

_T = TypeVar("_T")

log = structlog.stdlib.get_logger(__name__)


def simulate(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8443,
    plain: Annotated[bool, typer.Option("--plain", help="HTTP instead of HTTPS.")] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Another host name or address for the certificate. Repeatable."),
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
            f"Default: STATE/keys, with new keys for {' and '.join(ACCOUNTS)}.",
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
            + ", ".join(fault_specs.KINDS)
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line for each request.")] = False,
    output_format: OutputOption = Output.TEXT,
) -> None:
    """Run a CC-FS to try things with: it checks signatures, serves made-up bills, and fails as configured.

    As JSON, the first line has the URL and a worker's settings towards it; the others are its log, one for
    each request.

    Examples:
        ccfs-worker simulate --state sim
        ccfs-worker simulate --size 10KiB-4MiB --fault 0300008:0.1
        ccfs-worker simulate --list-faults
    """
    if list_faults:
        _explain(output_format)
        return
    home = state or Path(typer.get_app_dir("ccfs-simulator"))
    try:
        options = SimulatorOptions(
            keys=key_directory(keys, home),
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
    except ValueError as exc:
        raise SettingsError([str(exc)]) from exc
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(options, home, output_format, level="WARNING" if quiet else "INFO"))
    except ModuleNotFoundError as exc:
        raise SettingsError([f"{exc}: install ccfs-worker[simulator], or use --plain"]) from exc


def parse_sizes(text: str) -> Range:
    """Read one size or two, and a weight: `64KiB`, `10KiB-4MiB`, `1GiB:0.01`.

    Raises:
        ValueError: It is none of these.
    """
    sizes, colon, weight = text.partition(":")
    low, high = parse_span(sizes, parse_size)
    if low < MIN_BILL_BYTES:
        raise ValueError(f"{text}: no file can have less than {MIN_BILL_BYTES} bytes")
    return Range(low, high, parse_number(weight) if colon else 1.0)


def parse_seconds(text: str) -> Range:
    """Read one number of seconds or two: `0.2`, `0.1-2`.

    Raises:
        ValueError: It is none of these.
    """
    low, high = parse_span(text, parse_number)
    # Seconds between two bounds are drawn on a logarithmic scale, which has no zero.
    if low != high and not low:
        raise ValueError(f"{text}: a range must begin above 0")
    return Range(low, high)


def _parsed(option: str, parse: Callable[[str], _T], *texts: str) -> tuple[_T, ...]:
    try:
        return tuple(parse(text) for text in texts)
    except ValueError as exc:
        raise ValueError(f"{option}: {exc}") from None


def _log(request: AnsweredRequest) -> None:
    log.info(
        "simulator.answered",
        answer=request.answer,
        app_id=request.app_id,
        bill_file_name=request.bill_file_name,
        **({"reason": request.reason} if request.reason else {}),
    )


def _explain(output_format: Output) -> None:
    kinds = fault_specs.explain()
    if output_format is Output.JSON:
        for kind in kinds:
            terminal.json_line({"kind": kind.name, "options": kind.options, "meaning": kind.meaning})
        return
    table = Table("kind", "option=default", "what happens", box=None)
    for kind in kinds:
        defaults = " ".join(f"{name}={default}" for name, default in kind.options.items())
        table.add_row(kind.name, defaults, kind.meaning)
    Console().print(table)


async def _serve(options: SimulatorOptions, state: Path, output_format: Output, *, level: str) -> None:
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    what = f"--host, --port, --state: cannot serve {options.host}:{options.port} out of {state}"
    with naming_os_errors(what):
        async with open_simulator(options) as simulator:
            logs.configure(level=level, json=output_format is Output.JSON)
            with announced(simulator, options.keys, state / ENV_FILE, output_format):
                await signalled.wait()
