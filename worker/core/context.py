"""What a task inherits from the one that started it: its span and the fields of its log lines."""

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType

from worker.core.ports import TraceSpan
from worker.core.trace import Untraced, continue_trace, random_hex

_OUTSIDE = Untraced(continue_trace(None, random_hex))

SPAN: ContextVar[TraceSpan] = ContextVar("span", default=_OUTSIDE)
"""The span of the current task."""

LOG_FIELDS: ContextVar[Mapping[str, object]] = ContextVar("log_fields", default=MappingProxyType({}))
"""Fields of every log line of the current task: those of its job."""
