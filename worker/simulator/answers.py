"""Sends answers: the whole file, or what a fault makes of it."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import singledispatch

from aiohttp import web

from worker.simulator import faults
from worker.simulator.bills import Bill

FILE_TYPE = "Application/Octet-stream;charset=UTF-8"
"""The content type of a file, in CC-FS's own spelling."""

_STEPS_PER_SECOND = 20
_BLOCK = 64 * 1024
_EXTRA = b"\0" * 1024
_PAGE = (
    "<!DOCTYPE html><html><head><title>{status}</title></head><body><h1>{status}</h1>"
    "<p>Your request was blocked by the web application firewall.</p></body></html>"
)
_LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class WholeFile:
    """No fault: the file as it should be."""

    name = "file"


Answer = WholeFile | faults.Fault


def _no_bill(*, sound: bool = True) -> Bill:
    raise LookupError(f"no {'sound' if sound else 'unsound'} file was asked for")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Sends parts of the answer to one request.

    Attributes:
        request: The request.
        now: The time at the server.
        make_bill: Makes the file that it asks for; with `sound=False` one with a wrong CRC.
        bandwidth: Bytes per second; None for no limit.
    """

    request: web.BaseRequest
    now: datetime
    make_bill: Callable[..., Bill] = _no_bill
    bandwidth: float | None = None

    async def bill(self, bill: Bill, *, rate: float | None = None) -> web.StreamResponse:
        """Send a whole file."""
        return await self.file(bill.blocks(), announced=bill.size_bytes, rate=rate)

    async def file(
        self,
        blocks: Iterable[bytes],
        *,
        announced: int | None = None,
        rate: float | None = None,
        encoding: str | None = None,
    ) -> web.StreamResponse:
        """Send the headers of a file and these bytes; chunked unless a length is announced."""
        headers = {"Content-Type": FILE_TYPE}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        response = web.StreamResponse(headers=headers)
        if announced is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = announced
        await response.prepare(self.request)
        async for block in _paced(blocks, rate or self.bandwidth):
            await response.write(block)
        return response

    async def begun(self, at: float, *, chunked: bool = False) -> web.StreamResponse:
        """Send the answer up to `at` of the body, from 0 to 1, and at least one byte of it."""
        bill = self.make_bill()
        first = _first(bill.blocks(), _part(bill, at))
        return await self.file(first, announced=None if chunked else bill.size_bytes)

    def reset(self) -> None:
        """Reset the connection: a TCP RST, without an end of TLS or HTTP."""
        transport = self.request.transport
        # When the client has just closed the connection, the socket is gone and the transport is not yet.
        if transport is not None and (peer := transport.get_extra_info("socket")) is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()

    def write(self, raw: bytes) -> None:
        """Send raw bytes, past aiohttp."""
        if self.request.transport is not None:
            self.request.transport.write(raw)

    def close(self) -> None:
        """Close the connection properly, after the bytes that are still to be sent."""
        if self.request.transport is not None:
            self.request.transport.close()


@singledispatch
async def send(answer: object, reply: Reply) -> web.StreamResponse:  # noqa: ARG001 - names it for all
    """Send an answer. The response that it gives may be sent, or no longer possible to send.

    Args:
        answer: `WholeFile`, or a fault.
        reply: Where it is sent.
    """
    raise TypeError(f"{answer!r} is no answer")


@send.register
async def _(_: WholeFile, reply: Reply) -> web.StreamResponse:
    return await reply.bill(reply.make_bill())


@send.register
async def _(fault: faults.ResultCode, _: Reply) -> web.StreamResponse:
    return web.json_response(_result(fault.code))


@send.register
async def _(fault: faults.StatusCode, reply: Reply) -> web.StreamResponse:
    headers = {}
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    elif fault.retry_date is not None:
        moment = reply.now + timedelta(seconds=fault.retry_date)
        headers["Retry-After"] = format_datetime(moment, usegmt=True)
    return web.Response(status=fault.status, text=fault.text, headers=headers)


@send.register
async def _(_: faults.Reset, reply: Reply) -> web.StreamResponse:
    reply.reset()
    return web.Response()


@send.register
async def _(fault: faults.ResetBody, reply: Reply) -> web.StreamResponse:
    response = await reply.begun(fault.at)
    reply.reset()
    return response


@send.register
async def _(fault: faults.ShortBody, reply: Reply) -> web.StreamResponse:
    response = await reply.begun(fault.at)
    reply.close()
    return response


@send.register
async def _(_: faults.LongBody, reply: Reply) -> web.StreamResponse:
    response = await reply.bill(reply.make_bill())
    reply.write(_EXTRA)
    reply.close()
    return response


@send.register
async def _(_: faults.Chunked, reply: Reply) -> web.StreamResponse:
    return await reply.file(reply.make_bill().blocks())


@send.register
async def _(fault: faults.ChunkedCut, reply: Reply) -> web.StreamResponse:
    response = await reply.begun(fault.at, chunked=True)
    reply.close()
    return response


@send.register
async def _(fault: faults.Drip, reply: Reply) -> web.StreamResponse:
    return await reply.bill(reply.make_bill(), rate=fault.rate)


@send.register
async def _(_: faults.Silence, __: Reply) -> web.StreamResponse:
    return await _forever()


@send.register
async def _(fault: faults.Stall, reply: Reply) -> web.StreamResponse:
    await reply.begun(fault.at)
    return await _forever()


@send.register
async def _(_: faults.BadCrc, reply: Reply) -> web.StreamResponse:
    return await reply.bill(reply.make_bill(sound=False))


@send.register
async def _(_: faults.NotZip, reply: Reply) -> web.StreamResponse:
    body = b"This is no zip.\r\n" * 100
    return await reply.file([body], announced=len(body))


@send.register
async def _(_: faults.Empty, reply: Reply) -> web.StreamResponse:
    return await reply.file([], announced=0)


@send.register
async def _(fault: faults.JsonAsZip, reply: Reply) -> web.StreamResponse:
    body = json.dumps(_result(fault.code)).encode()
    return await reply.file([body], announced=len(body))


@send.register
async def _(fault: faults.Redirect, _: Reply) -> web.StreamResponse:
    return web.Response(status=fault.status, headers={"Location": fault.location})


@send.register
async def _(_: faults.Gzip, reply: Reply) -> web.StreamResponse:
    return await reply.file(_gzipped(reply.make_bill().blocks()), encoding="gzip")


@send.register
async def _(fault: faults.Waf, _: Reply) -> web.StreamResponse:
    return web.Response(status=fault.status, text=_PAGE.format(status=fault.status), content_type="text/html")


@send.register
async def _(fault: faults.HugeError, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=fault.status, headers={"Content-Type": "application/json"})
    response.content_length = fault.size
    await response.prepare(reply.request)
    for start in range(0, fault.size, _BLOCK):
        await response.write(b" " * min(_BLOCK, fault.size - start))
    return response


@send.register
async def _(fault: faults.HugeHeaders, reply: Reply) -> web.StreamResponse:
    reply.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * fault.size + b"\r\nContent-Length: 0\r\n\r\n")
    reply.close()
    return web.Response()


@send.register
async def _(_: faults.SlowHeaders, reply: Reply) -> web.StreamResponse:
    reply.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await asyncio.sleep(1 / _STEPS_PER_SECOND)
        reply.write(b"x")


@send.register
async def _(fault: faults.HugeChunkHeader, reply: Reply) -> web.StreamResponse:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {FILE_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n2;"
    reply.write(head.encode() + b"x" * fault.size + b"\r\nPK\r\n0\r\n\r\n")
    reply.close()
    return web.Response()


@send.register
async def _(fault: faults.Oversized, reply: Reply) -> web.StreamResponse:
    response = await reply.file(reply.make_bill().blocks(), announced=fault.announced)
    reply.close()
    return response


@send.register
async def _(_: faults.Endless, reply: Reply) -> web.StreamResponse:
    return await reply.file(_without_end(reply.make_bill()))


@send.register
async def _(_: faults.Garbage, reply: Reply) -> web.StreamResponse:
    reply.write(b"\x15\x03\x01 this is not HTTP\r\n\r\n")
    reply.close()
    return web.Response()


@send.register
async def _(fault: faults.Hold, reply: Reply) -> web.StreamResponse:
    if fault.before_headers:
        fault.reached.set()
        await fault.release.wait()
        return await reply.bill(reply.make_bill())
    response = await reply.begun(fault.at)
    await _held(fault)
    bill = reply.make_bill()
    async for block in _paced(_after(bill.blocks(), _part(bill, fault.at)), reply.bandwidth):
        await response.write(block)
    return response


async def _held(hold: faults.Hold) -> None:
    hold.reached.set()
    await hold.release.wait()


async def _forever() -> web.StreamResponse:
    """Wait until the client leaves or the server closes: both cancel this."""
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def _result(code: str) -> dict[str, object]:
    description = faults.DESCRIPTIONS.get(code, "The system is busy.")
    return {
        "resultCode": code,
        "resultDesc": description,
        "resultData": {},
        "response": {"version": "2.0", "resultCode": code, "resultMsg": description},
    }


def _part(bill: Bill, at: float) -> int:
    return max(1, int(bill.size_bytes * at))


def _first(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[:count]
        count -= len(block)
        if count <= 0:
            return


def _after(blocks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for block in blocks:
        if rest := block[max(0, count) :]:
            yield rest
        count -= len(block)


def _gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


def _without_end(bill: Bill) -> Iterator[bytes]:
    while True:
        yield from bill.blocks()


async def _paced(blocks: Iterable[bytes], rate: float | None) -> AsyncIterator[bytes]:
    """Yield blocks, at `rate` bytes per second or without a limit."""
    if rate is None:
        for block in blocks:
            yield block
        return
    step = max(1, int(rate / _STEPS_PER_SECOND))
    for block in blocks:
        for start in range(0, len(block), step):
            piece = block[start : start + step]
            yield piece
            await asyncio.sleep(len(piece) / rate)
