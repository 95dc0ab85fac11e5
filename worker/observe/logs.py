"""Structured logs on standard output: a constant event name, and fields.

Every line of a job has its `job_id`, file and trace (`worker.core.context`), so that one grep finds them all.
A storm of equal warnings is cut to its first lines and a count of the rest. Lines of level INFO are not cut:
each attempt has one. Log lines of libraries become lines of the same form.
"""

import asyncio
import atexit
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime
from functools import partial
from json import dumps
from typing import NoReturn

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import EventDict, WrappedLogger

from worker.core.context import LOG_FIELDS
from worker.observe.sink import Sink
from worker.observe.throttle import Throttle

BURST, INTERVAL = 20, 10.0
"""At most BURST warnings of one event and code are written within INTERVAL seconds."""
SUPPRESSED = "log.suppressed"
"""The event that says how many were not written."""

_NOISY = ("aio_pika", "aiormq", "aiohttp.access")
"""Loggers whose lines below CRITICAL only repeat events of ours."""
_LEVELS = (
    (logging.CRITICAL, "critical"),
    (logging.ERROR, "error"),
    (logging.WARNING, "warning"),
    (logging.INFO, "info"),
    (logging.NOTSET, "debug"),
)
_QUIET = frozenset({"debug", "info"})
_FLUSH_TIMEOUT = 2.0

_Render = Callable[[EventDict], bytes]
_sink: Sink | None = None

log = structlog.stdlib.get_logger(__name__)


def configure(*, level: str, json: bool) -> None:
    """Set up logging for the whole process.

    Args:
        level: The least severe level written: DEBUG, INFO, WARNING or ERROR.
        json: One JSON object a line, for machines; otherwise coloured text for people.
    """
    global _sink  # noqa: PLW0603 - there is one log in a process

    def report_dropped(count: int) -> None:
        log.warning("log.dropped", count=count, reason="the reader of the log did not keep up")

    _sink = sink = Sink(sys.stdout.fileno(), report_dropped)
    atexit.register(flush)
    structlog.configure(
        processors=[_Storms(), _Line(_json if json else _console())],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_Named, sink),
        # A logger that has written a line keeps these processors: nothing may log before this call.
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def flush() -> None:
    """Wait until every line is written, for two seconds at most."""
    if _sink is not None:
        _sink.flush(_FLUSH_TIMEOUT)


def silence() -> None:
    """Write nothing until `configure`: for commands that report in their own words."""
    structlog.configure(processors=[_drop])
    logging.getLogger().addHandler(logging.NullHandler())


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


class _Named:
    """The logger that structlog passes its lines to: the sink, with a name."""

    __slots__ = ("critical", "debug", "error", "info", "name", "warning")

    def __init__(self, sink: Sink, name: str = "worker") -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = sink.write


class _Line:
    """Builds a line and renders it: one processor instead of five, since each costs time on every line."""

    def __init__(self, render: _Render) -> None:
        self._render = render

    def __call__(self, logger: WrappedLogger, method: str, fields: EventDict) -> bytes:
        return self._render(
            {
                "timestamp": f"{datetime.now(UTC).isoformat()[:-6]}Z",
                "level": method,
                "event": fields.pop("event"),
                **LOG_FIELDS.get(),
                **fields,
                "logger": logger.name,
            }
        )


def _json(line: EventDict) -> bytes:
    if "exc_info" in line:
        line = structlog.processors.format_exc_info(None, "", line)
    try:
        return to_json(line, serialize_unknown=True) + b"\n"
    except PydanticSerializationError:
        # Text that is not Unicode (lone surrogates), such as a file name in another encoding.
        return dumps(line, default=repr).encode() + b"\n"


def _console() -> _Render:
    # NO_COLOR counts unless it is empty (no-color.org).
    colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    # The default formatter prints the variables of every frame, and one of them may be a key.
    renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
    return lambda line: str(renderer(None, "", line)).encode(errors="replace") + b"\n"


class _Storms:
    """Cuts warnings and errors of one event and code to a burst, and counts the rest afterwards."""

    def __init__(self) -> None:
        self._throttle = Throttle(time.monotonic, burst=BURST, interval=INTERVAL)
        self._reporting: asyncio.TimerHandle | None = None

    def __call__(self, _: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        event = fields["event"]
        if method in _QUIET or event == SUPPRESSED:
            return fields
        self._report()
        if self._throttle.admits((event, fields.get("code", ""))):
            return fields
        if self._reporting is None:
            # Silence after a storm: no further line would trigger the report. Without a running loop, as in
            # a command, there are no storms.
            with suppress(RuntimeError):
                self._reporting = asyncio.get_running_loop().call_later(INTERVAL, self._report_at_last)
        raise structlog.DropEvent

    def _report(self) -> None:
        for (event, code), count, seconds in self._throttle.over():
            # An empty context, without the fields of the job that happens to log now.
            Context().run(
                log.warning, SUPPRESSED, of=event, code=code, count=count, seconds=round(seconds, 1)
            )

    def _report_at_last(self) -> None:
        self._reporting = None
        self._report()


class _Foreign(logging.Handler):
    """Passes the log lines of libraries to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = {"exc_info": record.exc_info} if record.exc_info else {}
        # Libraries may have levels of their own between the standard ones.
        method = next(name for least, name in _LEVELS if record.levelno >= least)
        write = getattr(structlog.get_logger(record.name), method)
        write(record.getMessage(), **exc_info)
