"""Turns traces on: imports `otel` if OpenTelemetry's standard variables ask for traces."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from worker.core.ports import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"

log = structlog.stdlib.get_logger(__name__)


@asynccontextmanager
async def open_tracer(*, jobs_queue: str, base_url: str, version: str) -> AsyncIterator[Tracer | None]:
    """Yield the tracer that the environment asks for, or None. At the end, send the remaining spans.

    What is wrong or missing is only logged: these variables are often set for a whole cluster.

    Args:
        jobs_queue: The queue that jobs come from.
        base_url: CC-FS's URL.
        version: The worker's version.
    """
    if not is_wanted(os.environ):
        yield None
        return
    if problem := protocol_problem(os.environ):
        log.warning("traces.off", reason=problem)
        yield None
        return
    try:
        from worker.observe.otel import otlp_tracer  # noqa: PLC0415 - an extra
    except ImportError as exc:
        log.warning("traces.off", reason=f"{exc}: install ccfs-worker[otel], or unset OTEL_…")
        yield None
        return
    tracer = otlp_tracer(jobs_queue=jobs_queue, base_url=base_url, version=version)
    try:
        yield tracer
    finally:
        await asyncio.to_thread(tracer.shutdown)


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for OTLP (OpenTelemetry "Environment Variable Specification")."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporters := environ.get("OTEL_TRACES_EXPORTER"):
        return "otlp" in exporters.split(",")
    return any(environ.get(name) for name in _ENDPOINTS)


def protocol_problem(environ: Mapping[str, str]) -> str:
    """Say in one line why the wanted protocol is not supported; empty when it is."""
    for name in _PROTOCOLS:
        if (protocol := environ.get(name, _PROTOCOL)) != _PROTOCOL:
            return f"{name}: {protocol} is not supported: set {_PROTOCOL}, and the endpoint's port for it"
    return ""
