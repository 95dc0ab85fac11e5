"""RabbitMQ: the topology, sessions with it, and the messages on the wire."""

from worker.broker.session import BrokerOptions, Session, open_session
from worker.broker.topology import Names, Topology

__all__ = ["BrokerOptions", "Names", "Session", "Topology", "open_session"]
