"""RabbitMQ's management API: asked for what AMQP does not tell, the members and the policies of queues.

The worker can do without. The server may be slow, hostile, or no RabbitMQ at all: a question takes ten
seconds at most, an answer has a mebibyte at most, no redirect is followed (it would take the login
elsewhere), and nothing is decompressed.
"""

import asyncio
import random
import re
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

import aiohttp
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from yarl import URL

from worker.errors import BrokerError, one_line
from worker.net.urls import of_each_host

_TIMEOUT = 10.0
"""Seconds for the answer to a question; several hosts have equal parts of it."""
_MOST_BYTES = 1024 * 1024
"""Of an answer. RabbitMQ needs less than a kilobyte for a queue."""
_MOST_QUEUES = 500
"""In a page of the answer; RabbitMQ allows no more."""

_OK, _NOT_FOUND = 200, 404
_REFUSED = frozenset({401, 403})

# RabbitMQ writes "none" also as null, and "no policy" also as an empty list.
_Rules = Annotated[dict[str, Any], BeforeValidator(lambda value: value or {}), Field(max_length=100)]
_Nodes = Annotated[tuple[str, ...], BeforeValidator(lambda value: value or ()), Field(max_length=100)]

_T = TypeVar("_T")


class QueueView(BaseModel):
    """What the management API says of a queue.

    Some of it is some seconds old, such as a policy or a member that runs: RabbitMQ takes it from its
    statistics.

    Attributes:
        name: What it is called.
        type: `quorum`, `classic` or `stream`.
        arguments: What it was declared with.
        leader: The node of its last known leader; None for a queue that has none.
        members: The nodes that hold it.
        online: Those of them that run.
        policy: The policy in effect.
        operator_policy: The operator policy in effect.
        effective_policy_definition: What these two set together.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: str = "classic"
    arguments: _Rules = Field(default_factory=dict)
    leader: str | None = None
    members: _Nodes = ()
    online: _Nodes = ()
    policy: str | None = None
    operator_policy: str | None = None
    effective_policy_definition: _Rules = Field(default_factory=dict)

    @property
    def offline(self) -> list[str]:
        """The members that do not run, in order."""
        return sorted({*self.members} - {*self.online})


class _Page(BaseModel):
    items: tuple[QueueView, ...]


class _Node(BaseModel):
    name: str


_NODES = TypeAdapter(tuple[_Node, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementApi:
    """The management API of a cluster.

    Attributes:
        url: `http://` or `https://`, with a login. Of several hosts, a random one is asked first, and the
            next one when that fails.
        vhost: The virtual host of the queues.
        tls: How to verify an `https://` server; None for `http://`.
        timeout: Seconds for the answer to a question.
    """

    url: str = field(repr=False)
    vhost: str
    tls: ssl.SSLContext | None
    timeout: float = _TIMEOUT

    async def queues(self, names: Iterable[str]) -> dict[str, QueueView]:
        """Ask, in one request, for those of the queues that exist and that this login may see.

        Raises:
            BrokerError: There is no answer that can be used. The text shows no password.
        """
        wanted = {*names}
        query = {
            "name": f"^({'|'.join(map(re.escape, sorted(wanted)))})$",
            "use_regex": "true",
            "page": "1",
            "page_size": str(_MOST_QUEUES),
            "columns": ",".join(QueueView.model_fields),
        }
        page = await self._ask(f"queues/{quote(self.vhost, safe='')}", query, _Page.model_validate_json)
        return {view.name: view for view in page.items if view.name in wanted}

    async def nodes(self) -> int | None:
        """Count the nodes of the cluster, whether they run or not; None for a login that may not see them.

        Raises:
            BrokerError: As `queues`.
        """
        try:
            return len(await self._ask("nodes", {"columns": "name"}, _NODES.validate_json))
        except _RefusedError:
            # It takes the tag `monitoring`; queues take `management` alone.
            return None

    async def _ask(self, path: str, query: dict[str, str], read: Callable[[bytes], _T]) -> _T:
        urls = of_each_host(self.url)
        random.shuffle(urls)
        problems: list[str] = []
        for url in map(URL, urls):
            try:
                async with asyncio.timeout(self.timeout / len(urls)):
                    return read(await self._get(url, path, query))
            except _RefusedError:
                # All nodes of a cluster know the same logins.
                raise
            except TimeoutError:
                problems.append(f"{_place(url)} did not answer within {self.timeout / len(urls):g} s")
            except ValidationError:
                problems.append(f"{_place(url)} answers, but not as RabbitMQ does")
            except (aiohttp.ClientError, OSError, ValueError, BrokerError) as exc:
                problems.append(f"{_place(url)} {one_line(str(exc) or repr(exc))}")
        raise BrokerError(
            f"the management API cannot be asked: {'; '.join(problems)}: check WORKER_AMQP__MANAGEMENT_URL"
        )

    async def _get(self, url: URL, path: str, query: dict[str, str]) -> bytes:
        login = aiohttp.encode_basic_auth(url.user or "", url.password or "")
        target = URL(f"{str(url.with_user(None)).rstrip('/')}/api/{path}", encoded=True).with_query(query)
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self.tls or True),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Authorization": login, "Accept-Encoding": "identity"},
                auto_decompress=False,
            ) as http,
            http.get(target, allow_redirects=False) as response,
        ):
            _raise_for(response.status, url)
            return await _bounded(response.content)


class _RefusedError(BrokerError):
    """The login is refused, or may not see what was asked for."""


def _raise_for(status: int, url: URL) -> None:
    if status in _REFUSED:
        raise _RefusedError(
            f"the management API at {_place(url)} refuses the login of {url.user!r}: check "
            "WORKER_AMQP__MANAGEMENT_URL, and whether that user has the tag management or monitoring and a "
            "permission on the virtual host"
        )
    if status == _NOT_FOUND:
        raise BrokerError("answers HTTP 404: no management API, or this login does not see the virtual host")
    if status != _OK:
        raise BrokerError(f"answers HTTP {status}")


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    answer = bytearray()
    async for block in content.iter_any():
        answer += block
        if len(answer) > _MOST_BYTES:
            raise BrokerError(f"answers more than {_MOST_BYTES} bytes")
    return bytes(answer)


def _place(url: URL) -> str:
    return f"{url.host}:{url.port}"
