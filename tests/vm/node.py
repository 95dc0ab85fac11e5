"""A node of RabbitMQ in the machine, with its data on the disk."""

import asyncio

import aio_pika
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from tests.vm.lab import DATA
from tests.vm.machine import PATIENCE, Machine

_HOME = "/run/rabbitmq"
_SETTINGS = {
    "HOME": _HOME,
    "RABBITMQ_ADVANCED_CONFIG_FILE": f"{_HOME}/advanced.config",
    "RABBITMQ_CONFIG_FILE": f"{_HOME}/rabbitmq.conf",
    "RABBITMQ_CONF_ENV_FILE": f"{_HOME}/rabbitmq-env.conf",
    "RABBITMQ_ENABLED_PLUGINS_FILE": f"{_HOME}/enabled_plugins",
    "RABBITMQ_GENERATED_CONFIG_DIR": f"{_HOME}/config",
    "RABBITMQ_LOGS": f"{_HOME}/rabbit.log",
    "RABBITMQ_MNESIA_BASE": f"{DATA}/rabbitmq",
    "RABBITMQ_NODENAME": "rabbit@localhost",
    # Threads that spin before they sleep take the emulated processors from everything else.
    "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": '"+sbwt none +sbwtdcpu none +sbwtdio none"',
}
_START = f"""
mkdir -p {_HOME} {DATA}/rabbitmq
echo 'loopback_users = none' > {_HOME}/rabbitmq.conf
echo '[].' > {_HOME}/enabled_plugins
{" ".join(f"{name}={value}" for name, value in _SETTINGS.items())} \
    setsid /usr/lib/rabbitmq/bin/rabbitmq-server > {_HOME}/printed 2>&1 < /dev/null &
"""
_STOP = "pkill -TERM beam.smp; while pgrep beam.smp > /dev/null; do sleep 0.2; done"
_TOLD = f"tail -n 20 {_HOME}/printed {_HOME}/rabbit.log"
_CALLS_WITHIN = 30.0
_PAUSE = 0.5


class NodeError(Exception):
    """The node does not serve clients; the text is the end of its logs."""


async def start(machine: Machine, url: str) -> None:
    """Start it with the data it had, and return when it serves clients. Raises NodeError."""
    await machine.sh(_START)
    try:
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                if await _serves(url):
                    return
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise NodeError(await machine.sh(_TOLD)) from None


async def stop(machine: Machine) -> None:
    """Stop it in good order."""
    await machine.sh(_STOP, timeout=PATIENCE)


async def _serves(url: str) -> bool:
    try:
        async with await aio_pika.connect(url, timeout=_CALLS_WITHIN):
            return True
    except (*CONNECTION_EXCEPTIONS, TimeoutError):
        return False
