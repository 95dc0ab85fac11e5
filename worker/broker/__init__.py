"""RabbitMQ: the topology, sessions with it, and the messages on the wire."""

from worker.broker.delivery import AmqpDelivery
from worker.broker.publisher import NewestPublisher
from worker.broker.session import Address, BrokerOptions, Session, open_session
from worker.broker.topology import Names, QueueState, Topology

__all__ = [
    "Address",
    "AmqpDelivery",
    "BrokerOptions",
    "Names",
    "NewestPublisher",
    "QueueState",
    "Session",
    "Topology",
    "open_session",
]
