"""Structured logs on standard output: a constant event name, and fields.

Lines of a job carry its `job_id`, file and place in the trace (`worker.core.context`), so that one grep tells
its story. A storm of like warnings is kept to a burst and a count of the rest; lines of level INFO, of which
each attempt has one, are never kept back. The libraries' own lines go the same way.
"""

import asyncio
import atexit
import logging
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
"""Warnings of one event and code that are written within so many seconds."""
SUPPRESSED = "log.suppressed"
"""The event that tells how many more there were."""

_NOISY = ("aio_pika", "aiormq", "aiohttp.access")
"""Loggers whose every line below CRITICAL is told by an event of ours already."""
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
    _sink = sink = Sink(sys.stdout.fileno(), _tell_dropped)
    atexit.register(flush)
    structlog.configure(
        processors=[_Storms(), _Line(_json if json else _console())],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_Named, sink),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def flush() -> None:
    """Wait, for two seconds at most, until every line is written."""
    if _sink is not None:
        _sink.flush(_FLUSH_TIMEOUT)


def silence() -> None:
    """Write nothing, until `configure`: for commands that tell in their own words what happens."""
    structlog.configure(processors=[_drop])
    logging.getLogger().addHandler(logging.NullHandler())


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent


class _Named:
    """What structlog hands its lines to: the sink, under a logger's name."""

    __slots__ = ("critical", "debug", "error", "info", "name", "warning")

    def __init__(self, sink: Sink, name: str = "worker") -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = sink.write


class _Line:
    """Puts a line together and renders it; one step, since each costs every line."""

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
        # Text that is no Unicode, such as a file name in another encoding.
        return dumps(line, default=repr).encode() + b"\n"


def _console() -> _Render:
    # Its default shows the variables of every frame, and a key may be among them.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    return lambda line: str(renderer(None, "", line)).encode(errors="replace") + b"\n"


class _Storms:
    """Keeps warnings and errors of one event and code to a burst, and tells of the rest when it is over."""

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
        self._report_later()
        raise structlog.DropEvent

    def _report(self) -> None:
        for (event, code), count, seconds in self._throttle.over():
            # Not among the fields of the job at hand, which may have no part in it.
            Context().run(
                log.warning, SUPPRESSED, of=event, code=code, count=count, seconds=round(seconds, 1)
            )

    def _report_later(self) -> None:
        """See to it that the end of a storm is told even when nothing is logged after it."""
        if self._reporting is None:
            # Before and after the loop there are no storms.
            with suppress(RuntimeError):
                self._reporting = asyncio.get_running_loop().call_later(INTERVAL, self._report_at_last)

    def _report_at_last(self) -> None:
        self._reporting = None
        self._report()


class _Foreign(logging.Handler):
    """Takes the lines of the libraries."""

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = {"exc_info": record.exc_info} if record.exc_info else {}
        write = getattr(structlog.get_logger(record.name), _level(record.levelno))
        write(record.getMessage(), **exc_info)


def _level(number: int) -> str:
    """The method for a level; a library may have levels of its own in between."""
    return next(name for least, name in _LEVELS if number >= least)


def _tell_dropped(count: int) -> None:
    log.warning("log.dropped", count=count, reason="whoever reads the log did not keep up")
