"""What goes with a task without being handed on: the trace it works in, and what its log lines add."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from worker.trace import TraceContext

TRACE: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
"""The trace that messages published now continue; a task inherits that of the task that started it."""

LOG_FIELDS: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))
"""Fields that every log line bears now: those of the job at hand."""
