"""The AsyncAPI document of the contract: channels, operations and messages, from the worker's point of view.

Sources: AsyncAPI 3.1.0, and its AMQP bindings 0.3.0.
"""

import inspect
from collections.abc import Iterable

from schemas import examples
from schemas.documents import CONTRACT_VERSION, HOME, MODELS, Document, json_schema
from schemas.errors import ErrorCode
from schemas.job import DownloadJob
from schemas.outcomes import DownloadCompleted, DownloadFailed, FailedJob, Outcome

PROPERTIES = "x-amqp-properties"
"""The extension of a message that holds the JSON Schema of its AMQP properties, for which AsyncAPI has
no place: its `headers` are the application's own, and the AMQP binding knows only type and encoding."""

_BINDING = {"bindingVersion": "0.3.0"}
_JOBS, _RESULTS, _DEAD, _FAILED = "ccfs.jobs", "ccfs.results", "ccfs.dead", "ccfs.failed"

_DESCRIPTION = f"""\
What the CC-FS worker receives and sends. Each job that it takes from `{_JOBS}` ends in at least one event on
the exchange `{_RESULTS}`: `completed` once the whole, verified file is durable under its final name, else
`failed`.

Delivery is at least once. A duplicate event of a job has the same `jobId`, and the same `sha256` when it
completed.

All names are the defaults; an installation may choose others. Everything is durable, every queue is a quorum
queue, and the worker publishes mandatory, persistent and with publisher confirms.
"""

_TRACEPARENT = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "W3C Trace Context.",
    "examples": [examples.TRACEPARENT],
}
_TRACESTATE = {
    "type": "string",
    "description": "Vendor data of the trace. Beyond 512 characters, whole members are dropped from its end.",
}
_PUBLISH_ID = {
    "type": "integer",
    "description": "The worker's own: shows which publish the broker returned.",
}
_HEADERS_DROPPED = {
    "type": "string",
    "description": "Why the publisher's headers are missing: they could not be read, or left no room in a "
    "frame for the worker's own.",
}
_PUBLISHED_BY = {
    "type": "string",
    "description": "The `user_id` of the message that this is a copy of; the copy may not have it.",
}
_SINCE = {"type": "string", "format": "date-time"}
_ATTEMPT = {
    "type": "integer",
    "minimum": 1,
    "description": "Which attempt this is; 1 when absent. The worker's own: publishers leave it out.",
}


def asyncapi() -> Document:
    """Build the document."""
    return {
        "asyncapi": "3.1.0",
        "id": HOME,
        "info": {
            "title": "ccfs-worker",
            "version": CONTRACT_VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "rabbitmq.example.com:5671",
                "protocol": "amqps",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ 3.10 or later; each installation has its own.",
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": {model.__name__: json_schema(model) for model in MODELS},
        },
    }


def _channels() -> Document:
    return {
        "jobs": _queue(
            _JOBS,
            ["downloadJob"],
            "Jobs. Publishers use the default exchange with the queue's name as routing key, or a "
            "binding of their own. Jobs that are tried again wait in queues `ccfs.jobs.retry.*`, those that "
            "wait for their account's key in `ccfs.jobs.held.*`, and come back here.",
        ),
        "completed": _routing_key("completed.{appId}", ["downloadCompleted"], "Files that arrived."),
        "failed": _routing_key("failed.{appId}", ["downloadFailed"], "Jobs that ended without a file."),
        "failedUnreadable": _routing_key("failed", ["downloadFailed"], "Jobs without a usable appId."),
        "results": _queue(
            _RESULTS,
            ["downloadCompleted", "downloadFailed"],
            "All outcomes: bound to the results exchange with `#`, so that nothing is lost before a consumer "
            "exists. A setting turns this queue off.",
        ),
        "dead": _queue(
            _DEAD,
            ["parkedJob"],
            "Messages that the worker cannot process, until an operator replays or discards them. "
            "Each has a `failed` event too.",
        ),
        "failedJobs": _queue(
            _FAILED,
            ["failedJob"],
            "A copy of each `failed` event with its job, for operators. It is bound to no exchange. The "
            "oldest give way above a length that a setting gives; the same setting turns this queue off.",
        ),
    }


def _queue(name: str, messages: Iterable[str], description: str) -> Document:
    queue = {"name": name, "durable": True, "exclusive": False, "autoDelete": False, "vhost": "/"}
    return _channel(name, messages, description, {"is": "queue", "queue": queue})


def _routing_key(key: str, messages: Iterable[str], description: str) -> Document:
    exchange = {"name": _RESULTS, "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"}
    channel = _channel(key, messages, description, {"is": "routingKey", "exchange": exchange})
    if "{appId}" in key:
        channel["parameters"] = {
            "appId": {"description": "The job's account.", "examples": [examples.JOB["appId"]]}
        }
    return channel


def _channel(address: str, messages: Iterable[str], description: str, binding: Document) -> Document:
    return {
        "address": address,
        "description": description,
        "messages": {name: _ref("components", "messages", name) for name in messages},
        "bindings": {"amqp": binding | _BINDING},
    }


def _operations() -> Document:
    return {
        "receiveJob": _operation(
            "receive",
            "jobs",
            "Takes a job; acknowledges it once its event, or its copy for a later attempt, is confirmed.",
            {"ack": True},
        ),
        "sendCompleted": _send("completed", "Says that the file is there."),
        "sendFailed": _send("failed", "Says that the job is over, and why."),
        "sendFailedUnreadable": _send("failedUnreadable", "As sendFailed, for a job without a usable appId."),
        "keepFailedJob": _send("failedJobs", "Keeps a copy of a `failed` event, once that is confirmed."),
        "parkJob": _send("dead", "Parks a copy of an unreadable or hopeless message, with the reason."),
    }


def _send(channel: str, summary: str) -> Document:
    return _operation("send", channel, summary, {"deliveryMode": 2, "mandatory": True})


def _operation(action: str, channel: str, summary: str, binding: Document) -> Document:
    return {
        "action": action,
        "channel": _ref("channels", channel),
        "summary": summary,
        "bindings": {"amqp": binding | _BINDING},
    }


def _messages() -> Document:
    return {
        "downloadJob": _job_message(),
        "downloadCompleted": _event_message(DownloadCompleted, {"completed": examples.COMPLETED}),
        "downloadFailed": _event_message(
            DownloadFailed, {"not found": examples.NOT_FOUND, "invalid": examples.INVALID}
        ),
        "failedJob": _failed_job_message(),
        "parkedJob": _parked_message(),
    }


def _job_message() -> Document:
    return {
        "name": DownloadJob.__name__,
        "title": "Download job",
        "summary": "Asks for one file of one developer account.",
        "headers": _object(
            {
                "traceparent": _TRACEPARENT,
                "tracestate": _TRACESTATE,
                "x-attempt": _ATTEMPT,
                "x-held-since": _SINCE | {"description": "When it was held first. The worker's own."},
                "x-refused-since": _SINCE
                | {"description": "When its key was refused first. The worker's own."},
                "x-publish-id": _PUBLISH_ID,
                "x-headers-dropped": _HEADERS_DROPPED,
                "x-published-by": _PUBLISHED_BY,
            }
        ),
        PROPERTIES: _object(
            {
                "message_id": _text("Becomes the `jobId` of the job's events."),
                "correlation_id": _text("Comes back in the job's events."),
            }
        ),
        "payload": _ref("components", "schemas", DownloadJob.__name__),
        "examples": [_example("job", {}, examples.JOB)],
    }


def _event_message(model: type[Outcome], bodies: Document) -> Document:
    status = model.model_fields["status"].default
    message_type = f"download.{status}"
    properties = {
        "content_type": {"const": "application/json"},
        "type": {"const": message_type},
        "message_id": _text("Unique to each event, duplicates included."),
        "correlation_id": _text("The job's own, else its `jobId`."),
        "timestamp": {"type": "integer", "description": "When the event was published: seconds since 1970."},
        "app_id": {"const": "ccfs-worker"},
        "delivery_mode": {"const": 2},
    }
    headers = {
        "traceparent": _TRACEPARENT,
        "tracestate": _TRACESTATE | {"maxLength": 512},
        "x-publish-id": _PUBLISH_ID,
    }
    return {
        "name": model.__name__,
        "title": f"Download {status}",
        "summary": inspect.getdoc(model),
        "headers": _object(headers, required=["traceparent"]),
        PROPERTIES: _object(properties, required=list(properties)),
        "payload": _ref("components", "schemas", model.__name__),
        "bindings": {"amqp": {"messageType": message_type} | _BINDING},
        "examples": [
            _example(name, {"traceparent": examples.TRACEPARENT}, body) for name, body in bodies.items()
        ],
    }


def _failed_job_message() -> Document:
    event = _event_message(FailedJob, {})
    properties = event[PROPERTIES]["properties"] | {"app_id": _text("The publisher's own, if any.")}
    return event | {
        "title": "Failed job",
        PROPERTIES: _object(properties, required=[name for name in properties if name != "app_id"]),
        "headers": _object(
            {
                "traceparent": _TRACEPARENT,
                "tracestate": _TRACESTATE,
                "x-publish-id": _PUBLISH_ID,
                "x-headers-dropped": _HEADERS_DROPPED,
                "x-published-by": _PUBLISHED_BY,
            }
        ),
        "examples": [_example("not found", {}, examples.FAILED_JOB)],
    }


def _parked_message() -> Document:
    reasons = [code.value for code in (ErrorCode.INVALID_JOB, ErrorCode.DELIVERY_LIMIT)]
    headers = {
        "x-dead-reason": {"enum": reasons, "description": "The `errorCode` of the job's event."},
        "x-dead-detail": {"type": "string", "description": "Its `errorMessage`."},
        "x-dead-since": {"type": "integer", "description": "When it was parked: an AMQP timestamp (`T`)."},
        "x-dead-body-bytes": {
            "type": "integer",
            "minimum": 65_537,
            "description": "The length of the whole body, when only its first 64 KiB are here.",
        },
        "x-dead-body-sha256": {
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
            "description": "The SHA-256 of all of that body.",
        },
        "x-headers-dropped": _HEADERS_DROPPED,
        "x-published-by": _PUBLISHED_BY,
        "x-publish-id": _PUBLISH_ID,
        "x-attempt": _ATTEMPT,
        "traceparent": _TRACEPARENT,
        "tracestate": _TRACESTATE,
    }
    return {
        "name": "ParkedJob",
        "title": "Parked job",
        "summary": "A message that the worker cannot process, as it was published, and the reason.",
        "headers": _object(headers, required=["x-dead-reason", "x-dead-detail"]),
        PROPERTIES: _object(
            {
                "message_id": _text("As published: the `jobId` of the job's event, where there is one."),
                "correlation_id": _text("As published."),
                "delivery_mode": {"const": 2},
            },
            required=["delivery_mode"],
        ),
        "payload": {
            "description": "The body byte for byte as it was published, at most its first 64 KiB. It may "
            "not be JSON."
        },
        "examples": [
            _example(
                "not an object",
                {
                    "x-dead-reason": examples.INVALID["errorCode"],
                    "x-dead-detail": examples.INVALID["errorMessage"],
                },
                list(examples.JOB.values()),
            )
        ],
    }


def _example(name: str, headers: Document, payload: object) -> Document:
    return {"name": name} | ({"headers": headers} if headers else {}) | {"payload": payload}


def _object(properties: Document, *, required: Iterable[str] = ()) -> Document:
    schema: Document = {"type": "object", "properties": properties}
    return schema | ({"required": list(required)} if required else {})


def _text(description: str) -> Document:
    return {"type": "string", "maxLength": 255, "description": description}


def _ref(*path: str) -> Document:
    return {"$ref": "/".join(("#", *path))}
