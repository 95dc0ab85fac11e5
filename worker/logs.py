"""Structured logs on standard output: a constant event name, and fields.

Lines of a job carry its `job_id` by structlog's context variables. The libraries' own lines go
through the same formatting.
"""

import logging
import sys

import structlog
from structlog.typing import Processor

_NOISY = ("aio_pika", "aiormq", "aiohttp.access")
"""Loggers whose every line below CRITICAL is told by an event of ours already."""


def configure(*, level: str, json: bool) -> None:
    """Set up logging for the whole process.

    Args:
        level: The least severe level written: DEBUG, INFO, WARNING or ERROR.
        json: One JSON object a line, for machines; otherwise coloured text for people.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(json=json))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _rendering(*, json: bool) -> list[Processor]:
    strip: Processor = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if json:
        return [strip, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [strip, structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
