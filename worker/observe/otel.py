"""Sends spans by OpenTelemetry. `tracing` imports this module only when traces are wanted.

Names follow OpenTelemetry's semantic conventions for messaging (RabbitMQ) and HTTP client spans, version 1.38
and later. The exporter, its endpoint, sampling and resource are configured by the standard variables
(`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES`, …).
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePosixPath

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue
from yarl import URL

from worker.ccfs import DOWNLOAD_PATH
from worker.core.context import SPAN
from worker.core.job import Job
from worker.core.ports import TraceSpan
from worker.core.progress import Progress
from worker.core.trace import TraceContext
from worker.errors import JobError, NotConfirmedError

_Attributes = Mapping[str, AttributeValue]


class OtelTracer:
    """Implements `worker.core.ports.Tracer`.

    Args:
        provider: Makes the spans and exports them.
        jobs_queue: The queue that jobs come from.
        base_url: CC-FS's URL.
        version: The worker's version.
    """

    def __init__(self, provider: TracerProvider, *, jobs_queue: str, base_url: str, version: str) -> None:
        self.provider = provider
        self.tracer = provider.get_tracer("ccfs-worker", version)
        url = URL(base_url)
        self.request: _Attributes = {
            "http.request.method": "POST",
            "url.full": str(url.with_path(DOWNLOAD_PATH)),
            "server.address": url.host or "",
            "server.port": url.port or 0,
        }
        self._jobs_queue = jobs_queue
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, job: Job) -> TraceSpan:
        """Start the span of a job."""
        carrier = {"traceparent": job.traceparent, "tracestate": job.tracestate}
        parent = self._propagator.extract({name: value for name, value in carrier.items() if value})
        span = self.tracer.start_span(
            f"process {self._jobs_queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes=_job_attributes(job, self._jobs_queue),
        )
        return _OtelSpan(self, span)

    def shutdown(self) -> None:
        """Send the remaining spans. This blocks, for some seconds when the collector does not answer."""
        self.provider.shutdown()


def otlp_tracer(*, jobs_queue: str, base_url: str, version: str) -> OtelTracer:
    """Make the tracer that sends by OTLP over HTTP, configured by the standard variables."""
    return OtelTracer(
        provider(OTLPSpanExporter(), version), jobs_queue=jobs_queue, base_url=base_url, version=version
    )


def provider(exporter: SpanExporter, version: str) -> TracerProvider:
    """Make the provider of this worker's spans; a thread sends them in batches."""
    resource = Resource.create({SERVICE_VERSION: version})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "ccfs-worker"}))
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made


class _OtelSpan:
    """Implements `worker.core.ports.TraceSpan`."""

    def __init__(self, tracer: OtelTracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def context(self) -> TraceContext:
        place = self._span.get_span_context()
        return TraceContext(
            trace.format_trace_id(place.trace_id),
            trace.format_span_id(place.span_id),
            f"{place.trace_flags:02x}",
        )

    @contextmanager
    def request(self) -> Iterator[None]:
        with self._child("POST", SpanKind.CLIENT, self._tracer.request) as span:
            yield
            # Any other status has raised by now, and its error has it.
            span.set_attribute("http.response.status_code", 200)

    @contextmanager
    def write(self, path: PurePosixPath, progress: Progress) -> Iterator[None]:
        place = {"file.path": str(path), "file.name": path.name}
        with self._child("write file", SpanKind.INTERNAL, place) as span:
            yield
            span.set_attribute("file.size", progress.received_bytes)

    def publish(self, exchange: str, routing_key: str) -> AbstractContextManager[object]:
        # The default exchange has an empty name, and its routing key is the name of a queue.
        destination = exchange or routing_key
        return self._child(
            f"publish {destination}",
            SpanKind.PRODUCER,
            {
                "messaging.system": "rabbitmq",
                "messaging.operation.name": "publish",
                "messaging.operation.type": "send",
                "messaging.destination.name": destination,
                "messaging.rabbitmq.destination.routing_key": routing_key,
            },
        )

    def end(self, ending: str, code: str) -> None:
        self._span.set_attribute("ccfs.ending", ending)
        if code:
            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    @contextmanager
    def _child(self, name: str, kind: SpanKind, attributes: _Attributes) -> Iterator[trace.Span]:
        span = self._tracer.tracer.start_span(
            name, context=set_span_in_context(self._span), kind=kind, attributes=attributes
        )
        outer = SPAN.set(_OtelSpan(self._tracer, span))
        try:
            # Spans of other instrumentation, such as aiohttp's, become children of this one.
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except Exception as exc:
            span.set_attributes(_failure_attributes(exc))
            span.set_status(StatusCode.ERROR, str(exc))
            raise
        finally:
            SPAN.reset(outer)
            span.end()


def _job_attributes(job: Job, queue: str) -> _Attributes:
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
        "messaging.message.id": job.job_id,
        "messaging.message.conversation_id": job.correlation_id,
        "ccfs.attempt": job.attempt,
    }
    if job.app_id is not None:
        attributes["ccfs.app_id"] = job.app_id
    if job.bill_file_name is not None:
        attributes["ccfs.bill_file_name"] = job.bill_file_name
    return attributes


def _failure_attributes(exc: Exception) -> _Attributes:
    if isinstance(exc, JobError):
        status = {"http.response.status_code": exc.http_status} if exc.http_status else {}
        return {"error.type": exc.code, **status}
    if isinstance(exc, NotConfirmedError):
        return {"error.type": "unroutable" if exc.unroutable else "unconfirmed"}
    return {"error.type": type(exc).__qualname__}
