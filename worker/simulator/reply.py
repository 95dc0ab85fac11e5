"""Sends parts of an answer: a file at a given rate, the first half of it, bytes past HTTP, a reset."""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from worker.simulator.bills import Bill

FILE_TYPE = "Application/Octet-stream;charset=UTF-8"
"""The content type of a file, in CC-FS's own spelling."""
STEPS_PER_SECOND = 20
"""How often a slow answer sends something."""

# SO_LINGER switched on with a time of 0: closing the socket sends a RST instead of a FIN (socket(7)).
_LINGER_NOT = struct.pack("ii", 1, 0)


def _no_bill(*, sound: bool = True) -> Bill:
    raise LookupError(f"no {'sound' if sound else 'unsound'} file was asked for")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The way back to the client of one request.

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
        await self.body(response, blocks, rate=rate)
        return response

    async def begun(self, at: float, *, chunked: bool = False) -> web.StreamResponse:
        """Send the answer up to `at` of the body, from 0 to 1, and at least one byte of it."""
        bill = self.make_bill()
        first = _between(bill.blocks(), 0, _part(bill, at))
        return await self.file(first, announced=None if chunked else bill.size_bytes)

    async def rest(self, response: web.StreamResponse, at: float) -> None:
        """Send what `begun` left out."""
        bill = self.make_bill()
        await self.body(response, _between(bill.blocks(), _part(bill, at), bill.size_bytes))

    async def body(
        self, response: web.StreamResponse, blocks: Iterable[bytes], *, rate: float | None = None
    ) -> None:
        """Send bytes of a body, at `rate` bytes per second, else at the bandwidth."""
        rate = rate or self.bandwidth
        for block in blocks:
            step = max(1, int(rate / STEPS_PER_SECOND)) if rate else max(1, len(block))
            for start in range(0, len(block), step):
                piece = block[start : start + step]
                await response.write(piece)
                if rate:
                    await asyncio.sleep(len(piece) / rate)

    def write(self, raw: bytes) -> None:
        """Send raw bytes, past aiohttp."""
        if self.request.transport is not None:
            self.request.transport.write(raw)

    def close(self) -> None:
        """Close the connection properly, after the bytes that are still to be sent."""
        if self.request.transport is not None:
            self.request.transport.close()

    def reset(self) -> None:
        """Reset the connection: a TCP RST, without an end of TLS or HTTP."""
        transport = self.request.transport
        # When the client has just closed the connection, the socket is gone and the transport is not yet.
        if transport is not None and (peer := transport.get_extra_info("socket")) is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            transport.abort()

    async def silence(self) -> web.StreamResponse:
        """Send nothing until the client leaves or the server closes: both cancel this."""
        never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await never


def _part(bill: Bill, at: float) -> int:
    return max(1, int(bill.size_bytes * at))


def _between(blocks: Iterable[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to `end` of all blocks together."""
    position = 0
    for block in blocks:
        if piece := block[max(0, start - position) : end - position]:
            yield piece
        position += len(block)
        # Packing the blocks that follow would be for nothing.
        if position >= end:
            return
