"""docs/rabbitmq-topology.yaml makes RabbitMQ's operator declare what the worker wants, and allow no more."""

from pathlib import Path
from typing import Any

import yaml

from tests.broker.test_permissions import documented
from tests.helm import custom
from worker import wiring
from worker.settings import AccountsGroup, AmqpGroup, RetryGroup

PAGE = Path(__file__).parents[2] / "docs/rabbitmq-topology.yaml"
OBJECTS = [*yaml.safe_load_all(PAGE.read_text())]
TOPOLOGY = wiring.topology(AmqpGroup(), RetryGroup(), AccountsGroup())


def specs(kind: str) -> list[dict[str, Any]]:
    return [found["spec"] for found in OBJECTS if found["kind"] == kind]


def test_the_operator_knows_each_field() -> None:
    for found in OBJECTS:
        custom.check_written_down(found)

    names = [(found["kind"], found["metadata"]["name"]) for found in OBJECTS]
    assert len(names) == len(set(names))


def test_the_operator_declares_the_queues_as_the_worker_does() -> None:
    queues = {spec["name"]: {"x-queue-type": spec["type"], **spec["arguments"]} for spec in specs("Queue")}

    assert queues == TOPOLOGY.queues()
    assert {(spec["durable"], spec["deletionPolicy"]) for spec in specs("Queue")} == {(True, "retain")}


def test_the_operator_makes_exchanges_and_bindings_as_the_worker_does() -> None:
    names = TOPOLOGY.names

    assert {spec["name"]: (spec["type"], spec["durable"]) for spec in specs("Exchange")} == {
        names.results: ("topic", True),
        names.dead_letter_exchange: ("direct", True),
    }
    assert {(spec["source"], spec["routingKey"], spec["destination"]) for spec in specs("Binding")} == {
        (names.results, "#", names.results_queue),
        (names.dead_letter_exchange, names.old_dropped, names.dropped),
    }


def test_the_login_may_do_what_one_that_declares_nothing_has_to() -> None:
    (permission,) = specs("Permission")

    assert [permission["permissions"][right] for right in ("configure", "write", "read")] == documented()[
        "restricted"
    ]
    assert permission["userReference"]["name"] in {
        found["metadata"]["name"] for found in OBJECTS if found["kind"] == "User"
    }
