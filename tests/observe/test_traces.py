"""Traces: the publisher's goes on through the worker into the event, and is sent to a collector."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import aio_pika
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from devkit.run.worker_process import WorkerProcess
from schemas import ErrorCode
from tests.amqp import outside_channel
from tests.installation import PATIENCE, Site, bill
from worker.core.context import SPAN
from worker.core.job import Envelope, Job, read_job
from worker.core.progress import Progress
from worker.errors import JobError, NotConfirmedError
from worker.observe import tracing as otel
from worker.observe.otel import OtelTracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PUBLISHER = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PUBLISHER}-01"


@pytest.fixture
def sent() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(sent: InMemorySpanExporter) -> Iterator[OtelTracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(sent))
    made = OtelTracer(provider, jobs_queue="ccfs.jobs", base_url="https://ccfs:8443", version="1")
    yield made
    made.shutdown()


def job(traceparent: str | None = TRACEPARENT) -> Job:
    body = b'{"appId": "app1", "billFileName": "20260131_a.zip"}'
    return read_job(Envelope(body=body, message_id="m1", headers={"traceparent": traceparent}))


def by_name(sent: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in sent.get_finished_spans()}


def test_a_jobs_way_is_one_trace(tracer: OtelTracer, sent: InMemorySpanExporter) -> None:
    span = tracer.begin(job())
    SPAN.set(span)
    path, progress = PurePosixPath("app1/20260131/20260131_a.zip"), Progress(received_bytes=3)
    with SPAN.get().request(), SPAN.get().write(path, progress):
        pass
    with SPAN.get().publish("ccfs.results", "completed.app1"):
        told = SPAN.get().context
    span.end("completed", "")

    spans = by_name(sent)
    process, request, write, publish = (
        spans[name] for name in ("process ccfs.jobs", "POST", "write file", "publish ccfs.results")
    )
    assert len(spans) == 4
    assert [each.kind for each in (process, request, write, publish)] == [
        SpanKind.CONSUMER,
        SpanKind.CLIENT,
        SpanKind.INTERNAL,
        SpanKind.PRODUCER,
    ]
    assert process.parent
    assert f"{process.parent.span_id:016x}" == PUBLISHER
    assert [each.parent and each.parent.span_id for each in (request, write, publish)] == [
        process.context.span_id,
        request.context.span_id,
        process.context.span_id,
    ]
    assert told.traceparent == f"00-{TRACE_ID}-{publish.context.span_id:016x}-01"
    assert dict(process.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "ccfs.jobs",
        "messaging.message.id": "m1",
        "messaging.message.conversation_id": "m1",
        "ccfs.attempt": 1,
        "ccfs.app_id": "app1",
        "ccfs.bill_file_name": "20260131_a.zip",
        "ccfs.ending": "completed",
    }
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST",
        "url.full": "https://ccfs:8443/CCFS/resource/ccfs/downloadBillFile",
        "server.address": "ccfs",
        "server.port": 8443,
        "http.response.status_code": 200,
    }
    assert dict(write.attributes or {}) == {
        "file.path": "app1/20260131/20260131_a.zip",
        "file.name": "20260131_a.zip",
        "file.size": 3,
    }
    assert dict(publish.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "ccfs.results",
        "messaging.rabbitmq.destination.routing_key": "completed.app1",
    }


@pytest.mark.parametrize(
    ("failure", "attributes"),
    [
        (
            JobError(ErrorCode.FLOW_CONTROL, "slow down", http_status=429),
            {"error.type": "FLOW_CONTROL", "http.response.status_code": 429},
        ),
        (JobError(ErrorCode.TIMEOUT, "late"), {"error.type": "TIMEOUT"}),
        (NotConfirmedError("no queue", unroutable=True), {"error.type": "unroutable"}),
        (ZeroDivisionError("defect"), {"error.type": "ZeroDivisionError"}),
    ],
)
def test_a_failure_is_marked_where_it_struck(
    tracer: OtelTracer, sent: InMemorySpanExporter, failure: Exception, attributes: dict[str, object]
) -> None:
    span = tracer.begin(job())
    with pytest.raises(type(failure)), span.request():
        raise failure
    span.end("retried", "TIMEOUT")

    spans = by_name(sent)
    assert spans["POST"].status.status_code is StatusCode.ERROR
    assert attributes.items() <= dict(spans["POST"].attributes or {}).items()
    process = spans["process ccfs.jobs"]
    assert process.status.status_code is StatusCode.ERROR
    assert dict(process.attributes or {})["error.type"] == "TIMEOUT"


def test_a_job_without_a_trace_begins_one(tracer: OtelTracer, sent: InMemorySpanExporter) -> None:
    tracer.begin(job(traceparent=None)).end("completed", "")
    (process,) = sent.get_finished_spans()
    assert process.parent is None


def test_a_publisher_that_does_not_sample_is_obeyed(tracer: OtelTracer, sent: InMemorySpanExporter) -> None:
    span = tracer.begin(job(f"00-{TRACE_ID}-{PUBLISHER}-00"))
    with span.publish("ccfs.results", "completed.app1"):
        pass
    span.end("completed", "")
    assert sent.get_finished_spans() == ()
    assert (span.context.trace_id, span.context.flags) == (TRACE_ID, "00")


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, False),
    ],
)
def test_the_standard_variables_switch_traces_on(environ: dict[str, str], wanted: bool) -> None:
    assert otel.is_wanted(environ) is wanted


@dataclass
class Collector:
    """An OTLP receiver; takes spans over a real socket."""

    url: str = ""
    spans: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, str] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        for part in export.resource_spans:
            self.resource = {pair.key: pair.value.string_value for pair in part.resource.attributes}
            for scope in part.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}
        self.arrived.set()
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def span(self, name: str) -> Any:
        async with asyncio.timeout(PATIENCE):
            while name not in self.spans:
                self.arrived.clear()
                await self.arrived.wait()
        return self.spans[name]


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", made.take)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def traced_worker(site: Site, **variables: str) -> WorkerProcess:
    settings = site.settings(LOG__LEVEL="INFO") | {"OTEL_BSP_SCHEDULE_DELAY": "100"} | variables
    return WorkerProcess(settings, log_file=site.folder / "traced.log")


async def publish_in_a_trace(site: Site) -> None:
    async with outside_channel(site.own_url) as channel:
        message = aio_pika.Message(site.body(bill(1)), message_id="m1", headers={"traceparent": TRACEPARENT})
        site.ledger.publish("m1")
        await channel.default_exchange.publish(message, site.names.jobs)


async def test_a_collector_gets_the_whole_way(site: Site, collector: Collector) -> None:
    """From the publisher's span to the one that the event's consumer will continue."""
    with traced_worker(site, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as worker:
        await publish_in_a_trace(site)
        await site.settled()
        process = await collector.span(f"process {site.names.jobs}")
        request = await collector.span("POST")
        write = await collector.span("write file")
        publish = await collector.span(f"publish {site.names.results}")
        settled = await worker.logged("job.settled", job_id="m1")

    assert {span.trace_id.hex() for span in (process, request, write, publish)} == {TRACE_ID}
    assert process.parent_span_id.hex() == PUBLISHER
    assert request.parent_span_id == publish.parent_span_id == process.span_id
    assert write.parent_span_id == request.span_id
    assert process.start_time_unix_nano <= request.start_time_unix_nano <= write.start_time_unix_nano
    assert publish.end_time_unix_nano <= process.end_time_unix_nano
    (event,) = site.messages["m1"]
    assert event.headers["traceparent"] == f"00-{TRACE_ID}-{publish.span_id.hex()}-01"
    assert (settled["trace_id"], settled["span_id"]) == (TRACE_ID, process.span_id.hex())
    assert collector.resource["service.name"] == "ccfs-worker"


async def test_what_is_left_is_sent_when_the_worker_ends(site: Site, collector: Collector) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    with traced_worker(site, **variables, OTEL_SERVICE_NAME="calls") as worker:
        await publish_in_a_trace(site)
        await site.settled()
        await worker.logged("job.settled")
        assert collector.spans == {}
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0

    assert len(collector.spans) == 4
    assert collector.resource["service.name"] == "calls"


async def test_a_collector_that_is_away_harms_nothing(site: Site) -> None:
    with traced_worker(site, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1") as worker:
        await publish_in_a_trace(site)
        assert (await site.settled()).sound
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0


@pytest.fixture
def without_opentelemetry(tmp_path: Path) -> dict[str, str]:
    """The environment of a worker for which OpenTelemetry cannot be imported."""
    shadow = tmp_path / "shadow" / "opentelemetry"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ImportError('no OpenTelemetry here')\n")
    return {"PYTHONPATH": str(shadow.parent)}


async def test_without_the_extra_a_worker_says_so_and_works(
    site: Site, without_opentelemetry: dict[str, str]
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"} | without_opentelemetry
    with traced_worker(site, **variables) as worker:
        told = await worker.logged("traces.off")
        await publish_in_a_trace(site)
        assert (await site.settled()).sound

    assert "ccfs-worker[otel]" in told["reason"]
    (event,) = site.messages["m1"]
    assert str(event.headers["traceparent"]).startswith(f"00-{TRACE_ID}-")


async def test_nothing_of_it_is_imported_unless_asked_for(
    site: Site, without_opentelemetry: dict[str, str]
) -> None:
    with traced_worker(site, **without_opentelemetry) as worker:
        await worker.readiness()
        lines = worker.log_file.read_text()

    assert "traces.off" not in lines


async def test_another_protocol_is_refused_in_one_line(site: Site, collector: Collector) -> None:
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with traced_worker(site, **variables) as worker:
        told = await worker.logged("traces.off")

    assert json.dumps(told["reason"]).startswith('"OTEL_EXPORTER_OTLP_PROTOCOL: grpc is not supported')
