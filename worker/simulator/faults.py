"""The answers of the simulator: the whole file, and each fault that it injects instead.

An answer is data, and sends itself: its fields say what a user may choose, `send` does it.
"""

import asyncio
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from itertools import chain, count
from typing import Annotated, ClassVar

from aiohttp import web
from pydantic import Field

from worker.simulator.reply import FILE_TYPE, STEPS_PER_SECOND, Reply

_BLOCK = 64 * 1024
_PAGE = (
    "<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{status}</h1>"
    "<p>Your request was blocked by the web application firewall.</p></body></html>"
)

DESCRIPTIONS: Mapping[str, str] = {
    "0300001": "The parameter is null.",
    "0300002": "The parameter is an empty string.",
    "0300003": "The parameter is too long.",
    "0300004": "The format of the parameter is incorrect.",
    "0300005": "The parameter is too short.",
    "0300006": "The protocol version is incorrect.",
    "0300007": "The request body has no parameters.",
    "0300008": "The flow control threshold of downloads is reached.",
    "0300009": "The flow control threshold of queries is reached.",
    "0300010": "The date in the file name is malformed.",
    "0300011": "The file does not exist.",
    "0300012": "No data is found.",
    "0300013": "The begin time is later than the end time.",
}
"""The result codes of the vendor's page cec_07_0835, apart from success."""

HttpStatus = Annotated[int, Field(ge=200, le=599)]
Size = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(ABC):
    """An answer to a valid request."""

    kind: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """Its name on the command line and in records."""
        return self.kind

    @abstractmethod
    async def send(self, reply: Reply) -> web.StreamResponse:
        """Send it. The response that this gives may be sent, or no longer possible to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeFile(Answer):
    """The file as it should be."""

    kind = "file"

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.bill(reply.make_bill())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault(Answer):
    """Something wrong with an answer; the first line of each one's docstring explains it to users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCode(Fault):
    """HTTP 200 and JSON with that resultCode."""

    kind = "RESULTCODE"
    code: str

    @property
    def name(self) -> str:
        """The code itself."""
        return self.code

    @property
    def text(self) -> str:
        """What the code means, in the vendor's words where it is one of theirs."""
        return DESCRIPTIONS.get(self.code, "The system is busy.")

    async def send(self, _: Reply) -> web.StreamResponse:
        return web.json_response(self.result())

    def result(self) -> dict[str, object]:
        """The JSON that says so."""
        return {
            "resultCode": self.code,
            "resultDesc": self.text,
            "resultData": {},
            "response": {"version": "2.0", "resultCode": self.code, "resultMsg": self.text},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusCode(Fault):
    """That HTTP status, with a Retry-After in seconds, or as a date, given in seconds from now.

    Attributes:
        text: The body, as plain text.
    """

    kind = "http-STATUS"
    status: HttpStatus
    retry_after: Annotated[int, Field(ge=0)] | None = None
    retry_date: int | None = None
    text: str = ""

    @property
    def name(self) -> str:
        """`http-` and the status."""
        return f"http-{self.status}"

    async def send(self, reply: Reply) -> web.StreamResponse:
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        elif self.retry_date is not None:
            moment = reply.now + timedelta(seconds=self.retry_date)
            headers["Retry-After"] = format_datetime(moment, usegmt=True)
        return web.Response(status=self.status, text=self.text, headers=headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _InBody(Fault):
    """Something that happens in the middle of the body.

    Attributes:
        at: Where in the body, from 0 to 1. At least one byte is sent before.
    """

    at: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Fault):
    """The connection is reset before any answer."""

    kind = "reset"

    async def send(self, reply: Reply) -> web.StreamResponse:
        reply.reset()
        return web.Response()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetBody(_InBody):
    """The connection is reset in the middle of the body."""

    kind = "reset-body"

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = await reply.begun(self.at)
        reply.reset()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortBody(_InBody):
    """The connection is closed properly before all announced bytes were sent."""

    kind = "short"

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = await reply.begun(self.at)
        reply.close()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class LongBody(Fault):
    """More bytes than announced."""

    kind = "long"

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = await reply.bill(reply.make_bill())
        reply.write(b"\0" * 1024)
        reply.close()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunked(Fault):
    """A good file, but chunked: its size is not announced."""

    kind = "chunked"

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.file(reply.make_bill().blocks())


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedCut(_InBody):
    """Chunked, and the connection is closed before the last chunk."""

    kind = "chunked-cut"

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = await reply.begun(self.at, chunked=True)
        reply.close()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Drip(Fault):
    """A good file, sent slowly; rate is in bytes per second."""

    kind = "drip"
    rate: Annotated[float, Field(gt=0)] = 1024

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.bill(reply.make_bill(), rate=self.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence(Fault):
    """No answer at all, and the connection stays open."""

    kind = "silence"

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.silence()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall(_InBody):
    """Silence in the middle of the body, and the connection stays open."""

    kind = "stall"

    async def send(self, reply: Reply) -> web.StreamResponse:
        await reply.begun(self.at)
        return await reply.silence()


@dataclass(frozen=True, slots=True, kw_only=True)
class BadCrc(Fault):
    """A whole zip with one wrong CRC."""

    kind = "bad-crc"

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.bill(reply.make_bill(sound=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class NotZip(Fault):
    """Text under the content type of a zip."""

    kind = "not-zip"

    async def send(self, reply: Reply) -> web.StreamResponse:
        body = b"This is no zip.\r\n" * 100
        return await reply.file([body], announced=len(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Empty(Fault):
    """No byte at all under the content type of a zip."""

    kind = "empty"

    async def send(self, reply: Reply) -> web.StreamResponse:
        return await reply.file([], announced=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonAsZip(Fault):
    """JSON with a resultCode under the content type of a zip."""

    kind = "json"
    code: str = "0300011"

    async def send(self, reply: Reply) -> web.StreamResponse:
        body = json.dumps(ResultCode(code=self.code).result()).encode()
        return await reply.file([body], announced=len(body))


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect(Fault):
    """A redirect to another host."""

    kind = "redirect"
    status: HttpStatus = 302
    location: str = "https://elsewhere.invalid/"

    async def send(self, _: Reply) -> web.StreamResponse:
        return web.Response(status=self.status, headers={"Location": self.location})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gzip(Fault):
    """The zip inside a gzip, and Content-Encoding says so."""

    kind = "gzip"

    async def send(self, reply: Reply) -> web.StreamResponse:
        packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
        blocks = map(packer.compress, reply.make_bill().blocks())
        return await reply.file(chain(blocks, map(packer.flush, [zlib.Z_FINISH])), encoding="gzip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waf(Fault):
    """A web application firewall's page in HTML."""

    kind = "waf"
    status: HttpStatus = 403

    async def send(self, _: Reply) -> web.StreamResponse:
        page = _PAGE.format(status=self.status)
        return web.Response(status=self.status, text=page, content_type="text/html")


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeError(Fault):
    """A very long error body; size is in bytes."""

    kind = "huge-error"
    status: HttpStatus = 500
    size: Size = 256 * 1024 * 1024

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=self.status, headers={"Content-Type": "application/json"})
        response.content_length = self.size
        await response.prepare(reply.request)
        for start in range(0, self.size, _BLOCK):
            await response.write(b" " * min(_BLOCK, self.size - start))
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeHeaders(Fault):
    """A very long header; size is in bytes."""

    kind = "huge-headers"
    size: Size = 1024 * 1024

    async def send(self, reply: Reply) -> web.StreamResponse:
        reply.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * self.size + b"\r\nContent-Length: 0\r\n\r\n")
        reply.close()
        return web.Response()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowHeaders(Fault):
    """A header that never ends, a few bytes each second."""

    kind = "slow-headers"

    async def send(self, reply: Reply) -> web.StreamResponse:
        reply.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while True:
            await asyncio.sleep(1 / STEPS_PER_SECOND)
            reply.write(b"x")


@dataclass(frozen=True, slots=True, kw_only=True)
class HugeChunkHeader(Fault):
    """Chunked, with a very long chunk extension; size is in bytes."""

    kind = "huge-chunk-header"
    size: Size = 1024 * 1024

    async def send(self, reply: Reply) -> web.StreamResponse:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {FILE_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n2;"
        reply.write(head.encode() + b"x" * self.size + b"\r\nPK\r\n0\r\n\r\n")
        reply.close()
        return web.Response()


@dataclass(frozen=True, slots=True, kw_only=True)
class Oversized(Fault):
    """Many more bytes announced than the file has; then the connection is closed."""

    kind = "oversized"
    announced: Size = 1024**4

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = await reply.file(reply.make_bill().blocks(), announced=self.announced)
        reply.close()
        return response


@dataclass(frozen=True, slots=True, kw_only=True)
class Endless(Fault):
    """A body that never ends, chunked."""

    kind = "endless"

    async def send(self, reply: Reply) -> web.StreamResponse:
        bill = reply.make_bill()
        return await reply.file(chain.from_iterable(bill.blocks() for _ in count()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage(Fault):
    """An answer that is not HTTP."""

    kind = "garbage"

    async def send(self, reply: Reply) -> web.StreamResponse:
        reply.write(b"\x15\x03\x01 this is not HTTP\r\n\r\n")
        reply.close()
        return web.Response()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnswer(_InBody):
    """Waits in the middle of the body until it is released; for tests in the same process.

    Attributes:
        before_headers: Waits before the answer's first byte instead.
        reached: Set when the answer has come to this point.
        release: Set it to continue the answer.
    """

    kind = "hold"
    before_headers: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    release: asyncio.Event = field(default_factory=asyncio.Event, compare=False)

    async def send(self, reply: Reply) -> web.StreamResponse:
        response = None if self.before_headers else await reply.begun(self.at)
        self.reached.set()
        await self.release.wait()
        if response is None:
            return await reply.bill(reply.make_bill())
        await reply.rest(response, self.at)
        return response
