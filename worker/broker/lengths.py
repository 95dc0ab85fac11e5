"""How much waits in the queues."""

from worker.broker.connection import Connection, open_channel, unbroken
from worker.broker.topology import Topology


async def queue_lengths(connection: Connection, topology: Topology) -> dict[str, int]:
    """Count, by queue, the messages that wait to be delivered.

    Raises:
        BrokerError: One of them does not exist, or the connection broke.
    """
    async with open_channel(connection) as channel:
        with unbroken():
            declared = [await channel.declare_queue(name, passive=True) for name in topology.queues()]
    return {queue.name: queue.declaration_result.message_count or 0 for queue in declared}
