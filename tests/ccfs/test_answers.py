"""Every answer of CC-FS, and of what may stand before it, becomes one code of the contract."""

import gzip
import json
from typing import NamedTuple

import pytest

from schemas import ErrorCode
from tests.ccfs.raw import Peer, answering, response, serving
from tests.ccfs.samples import JOB, KEY, OpenClient, make_zip, read_all
from worker.errors import JobError

JSON = "application/json;charset=UTF-8"
BINARY = "Application/Octet-stream;charset=UTF-8"


class Case(NamedTuple):
    answer: bytes
    code: ErrorCode
    result_code: str | None = None
    http_status: int | None = 200


def refusal(result_code: object, **fields: object) -> bytes:
    return json.dumps({"resultCode": result_code, "resultDesc": "no", "resultData": None, **fields}).encode()


OLD_FORM = json.dumps(
    {"response": {"version": "2.0", "resultCode": "0300008", "resultMsg": "slow down"}}
).encode()
CODES = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 10, 13), ErrorCode.REQUEST_REJECTED),
    **dict.fromkeys((8, 9), ErrorCode.FLOW_CONTROL),
    **dict.fromkeys((11, 12), ErrorCode.FILE_NOT_FOUND),
    **dict.fromkeys((0, 14, 99), ErrorCode.UPSTREAM_ERROR),
}
STATUSES = {
    **dict.fromkeys((400, 404, 405, 407, 409, 410, 413, 418, 451, 499), ErrorCode.REQUEST_REJECTED),
    **dict.fromkeys((403, 429, 502, 503, 504), ErrorCode.FLOW_CONTROL),
    **dict.fromkeys(
        (201, 202, 204, 205, 206, 226, 300, 304, 500, 501, 505, 511, 599), ErrorCode.UPSTREAM_ERROR
    ),
    401: ErrorCode.UNAUTHORIZED,
}

CASES = {
    **{
        f"result code {number} beside 200": Case(
            response(refusal(f"{300000 + number:07}"), content_type=JSON), code, f"{300000 + number:07}"
        )
        for number, code in CODES.items()
    },
    **{
        f"status {status}": Case(response(status=status), code, None, status)
        for status, code in STATUSES.items()
    },
    "an error under the type of a file": Case(
        response(refusal("0300011"), content_type=BINARY), ErrorCode.FILE_NOT_FOUND, "0300011"
    ),
    "an error under no type": Case(
        response(refusal("0300008"), content_type=None), ErrorCode.FLOW_CONTROL, "0300008"
    ),
    "an error as HTML": Case(
        response(refusal("0300008"), content_type="text/html"), ErrorCode.FLOW_CONTROL, "0300008"
    ),
    "an error after a byte order mark": Case(
        response(b"\xef\xbb\xbf" + refusal("0300011")), ErrorCode.FILE_NOT_FOUND, "0300011"
    ),
    "an error after whitespace": Case(
        response(b" \r\n\t" * 100 + refusal("0300012")), ErrorCode.FILE_NOT_FOUND, "0300012"
    ),
    "an error in the deprecated form": Case(response(OLD_FORM), ErrorCode.FLOW_CONTROL, "0300008"),
    "the deprecated form beside a null": Case(
        response(refusal(None, response={"resultCode": "0300009"})), ErrorCode.FLOW_CONTROL, "0300009"
    ),
    "success without a file": Case(response(refusal("0"), content_type=JSON), ErrorCode.UPSTREAM_ERROR, "0"),
    "a result code that is a number": Case(response(refusal(42)), ErrorCode.UPSTREAM_ERROR, "42"),
    "a result code that is a list": Case(response(refusal(["0300008"])), ErrorCode.UPSTREAM_ERROR),
    "a result code that is true": Case(response(refusal(True)), ErrorCode.UPSTREAM_ERROR),
    "an empty result code": Case(response(refusal("")), ErrorCode.UPSTREAM_ERROR),
    "JSON without a result code": Case(response(b"{}", content_type=JSON), ErrorCode.UPSTREAM_ERROR),
    "JSON that is no object": Case(response(b"[]", content_type=JSON), ErrorCode.UPSTREAM_ERROR),
    "JSON that breaks off": Case(
        response(b'{"resultCode": "03000', content_type=JSON), ErrorCode.UPSTREAM_ERROR
    ),
    "nothing as JSON": Case(response(b"", content_type=JSON), ErrorCode.UPSTREAM_ERROR),
    "nothing as a file": Case(response(b""), ErrorCode.CORRUPT_ARCHIVE),
    "three bytes of a zip": Case(response(b"PK\x03"), ErrorCode.CORRUPT_ARCHIVE),
    "something else as a file": Case(response(b"\x7fELF" * 100), ErrorCode.CORRUPT_ARCHIVE),
    "something else under no type": Case(response(b"\x7fELF", content_type=None), ErrorCode.CORRUPT_ARCHIVE),
    "a web page": Case(response(b"<html>", content_type="text/html"), ErrorCode.UPSTREAM_ERROR),
    "an impossible type": Case(response(b"x", content_type="\x80;;=\xff"), ErrorCode.UPSTREAM_ERROR),
    "a file gzipped": Case(
        response(gzip.compress(make_zip()), Content_Encoding="gzip"), ErrorCode.UPSTREAM_ERROR
    ),
    "an error gzipped": Case(
        response(gzip.compress(refusal("0300008")), content_type=JSON, Content_Encoding="gzip"),
        ErrorCode.UPSTREAM_ERROR,
    ),
    "a missing file beside 404": Case(
        response(refusal("0300011"), status=404), ErrorCode.FILE_NOT_FOUND, "0300011", 404
    ),
    "flow control beside 500": Case(
        response(refusal("0300008"), status=500), ErrorCode.FLOW_CONTROL, "0300008", 500
    ),
    "an unknown result code beside 400": Case(
        response(refusal("0399999"), status=400), ErrorCode.REQUEST_REJECTED, "0399999", 400
    ),
    "any result code beside 401": Case(
        response(refusal("0300008"), status=401), ErrorCode.UNAUTHORIZED, "0300008", 401
    ),
    "a zip beside 500": Case(response(make_zip(), status=500), ErrorCode.UPSTREAM_ERROR, None, 500),
    "a zip beside 206": Case(response(make_zip(), status=206), ErrorCode.UPSTREAM_ERROR, None, 206),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_answers_are_told_apart(client_for: OpenClient, case: Case) -> None:
    async with serving(answering(case.answer)) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    error = caught.value
    assert (error.code, error.result_code, error.http_status) == case[1:]
    assert error.message


@pytest.mark.parametrize("content_type", [BINARY, "application/zip", "text/plain", JSON, None], ids=str)
async def test_a_zip_is_a_file_under_any_content_type(
    client_for: OpenClient, content_type: str | None
) -> None:
    """A proxy may have set it; that the bytes are a sound zip is proved later."""
    content = make_zip(b"x" * 1000)
    answer = response(content, content_type=content_type)
    async with serving(answering(answer)) as server, client_for(server.base_url) as client:
        assert await read_all(client) == content


async def test_the_announced_size_is_passed_on(client_for: OpenClient) -> None:
    content = make_zip()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(content),
        content,
    )
    sizes = []
    for answer in (response(content), chunked):
        async with (
            serving(answering(answer)) as server,
            client_for(server.base_url) as client,
            client.open(JOB, KEY) as file,
        ):
            assert b"".join([bytes(chunk) async for chunk in file.chunks]) == content
            sizes.append(file.announced_bytes)

    assert sizes == [len(content), None]


@pytest.mark.parametrize("length", [b"0" * 4500 + b"%d", b"0" * 19 + b"%d"], ids=["4,500 zeros", "19 zeros"])
async def test_a_length_of_too_many_digits_is_an_upstream_error(
    client_for: OpenClient, length: bytes
) -> None:
    content = make_zip()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: " + length % len(content) + b"\r\n\r\n" + content
    async with serving(answering(answer)) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UPSTREAM_ERROR, 200)
    assert "Content-Length" in caught.value.message


async def test_a_file_may_come_a_byte_at_a_time(client_for: OpenClient) -> None:
    """The first bytes decide only once there are enough of them."""
    content = make_zip()

    async def trickle(peer: Peer) -> None:
        await peer.request()
        for byte in response(content):
            await peer.send(bytes([byte]))

    async with serving(trickle) as server, client_for(server.base_url) as client:
        assert await read_all(client) == content


async def test_informational_answers_are_passed_over(client_for: OpenClient) -> None:
    """A proxy may send 100 and 103 before the answer proper (RFC 9110, section 15.2)."""
    content = make_zip()
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" + response(content)
    async with serving(answering(answer)) as server, client_for(server.base_url) as client:
        assert await read_all(client) == content


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("Sat, 31 Jan 2026 08:17:00 GMT", 120),
        ("Sat, 31 Jan 2026 08:00:00 GMT", 0),
        ("99999999999", 86400),
        ("-5", None),
        ("soon", None),
    ],
)
async def test_retry_after_is_read_in_both_its_forms(
    client_for: OpenClient, value: str, seconds: float | None
) -> None:
    answer = response(status=503, Retry_After=value)
    async with serving(answering(answer)) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    assert (caught.value.code, caught.value.retry_after) == (ErrorCode.FLOW_CONTROL, seconds)


async def test_an_echoed_signature_does_not_get_into_the_message(client_for: OpenClient) -> None:
    """Debug pages of proxies show the request's headers."""

    async def echo(peer: Peer) -> None:
        request = await peer.request()
        desc = f"your Authorization was {request.headers['authorization']}"
        await peer.send(response(refusal("0300004", resultDesc=desc)))

    async with serving(echo) as server, client_for(server.base_url) as client:
        with pytest.raises(JobError) as caught:
            await read_all(client)

    signature = server.requests[0].headers["authorization"].rpartition("/")[2]
    assert "your Authorization was" in caught.value.message
    assert signature not in caught.value.message
