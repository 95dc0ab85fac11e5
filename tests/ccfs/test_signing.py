"""Requests are signed as CC-FS checks them, over exactly the bytes that are sent."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.ccfs import signing
from worker.ccfs.signing import Request

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "auth-v2-vectors.json").read_text(encoding="utf-8")
)
ENCODED = re.compile(r"([A-Za-z0-9._~-]|%[0-9A-F]{2})*")
TIMESTAMP = "2026-01-31T08:15:00Z"

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])

names = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True).filter(
    lambda name: name.lower() != "host"
)
texts = st.text(max_size=40)
requests = st.builds(
    Request,
    method=st.sampled_from(["POST", "GET"]),
    path=st.from_regex(r"/[A-Za-z0-9/_-]{0,30}", fullmatch=True),
    headers=st.lists(st.tuples(names, texts), max_size=5, unique_by=lambda header: header[0].lower()).map(
        lambda headers: {"Host": "ccfs.example.com:8443", **dict(headers)}
    ),
    body=st.binary(max_size=200),
    query=st.dictionaries(texts, texts, max_size=5),
)


def request_of(vector: Mapping[str, Any]) -> Request:
    return Request(
        method=vector["method"],
        path=vector["path"],
        headers=vector["headers"],
        body=vector["body"].encode(),
        query=vector["query"],
    )


def sign(
    request: Request, *, secret_key: str = "sk", access_key: str = "ak", timestamp: str = TIMESTAMP
) -> str:
    return signing.authorization(request, access_key=access_key, secret_key=secret_key, timestamp=timestamp)


def signature(authorization: str) -> str:
    return authorization.rpartition("/")[2]


@each_vector
def test_the_canonical_request_is_the_vendors(vector: Mapping[str, Any]) -> None:
    assert signing.canonical_request(request_of(vector)) == vector["canonical_request"]


@each_vector
def test_the_signing_key_is_the_vendors(vector: Mapping[str, Any]) -> None:
    prefix = vector["authorization"].rpartition("/")[0]

    assert signing.hmac_hex(vector["secret_key"], prefix) == vector["signing_key"]


@each_vector
def test_the_authorization_is_the_vendors(vector: Mapping[str, Any]) -> None:
    authorization = signing.authorization(
        request_of(vector),
        access_key=vector["access_key"],
        secret_key=vector["secret_key"],
        timestamp=vector["timestamp"],
    )

    assert authorization == vector["authorization"]
    assert signature(authorization) == vector["signature"]
    assert authorization.split("/")[3] == vector["signed_headers"]


@given(requests, texts)
def test_a_request_always_gets_the_same_signature(request: Request, key: str) -> None:
    authorization = sign(request, secret_key=key)

    assert authorization == sign(request, secret_key=key)
    assert re.fullmatch(r"[0-9a-f]{64}", signature(authorization))


@given(requests, texts)
def test_the_secret_key_is_not_in_the_header(request: Request, noise: str) -> None:
    key = f"S3cret-{noise}"

    assert key not in sign(request, secret_key=key)


@given(requests)
def test_all_but_the_path_is_percent_encoded_in_upper_case(request: Request) -> None:
    method, path, *lines, body = signing.canonical_request(request).split("\n")

    assert (method, path) == (request.method, request.path)
    for part in (body, *(piece for line in lines for piece in re.split("[:;=&]", line))):
        assert ENCODED.fullmatch(part), part


@given(st.binary(max_size=500))
def test_the_body_is_signed_byte_for_byte_whatever_its_encoding(body: bytes) -> None:
    request = Request(method="POST", path="/p", headers={"host": "h:1"}, body=body)

    assert unquote_to_bytes(signing.canonical_request(request).rpartition("\n")[2]) == body


@given(requests, st.randoms(use_true_random=False))
def test_order_of_headers_and_query_and_case_do_not_matter(request: Request, random: Any) -> None:
    headers = [
        (random.choice([name.lower(), name.upper(), name]), value) for name, value in request.headers.items()
    ]
    query = list(request.query.items())
    random.shuffle(headers)
    random.shuffle(query)

    assert sign(replace(request, headers=dict(headers), query=dict(query))) == sign(request)


@given(data=st.data(), request=requests)
def test_a_change_of_any_part_changes_the_signature(data: st.DataObject, request: Request) -> None:
    part = data.draw(st.sampled_from(["method", "path", "headers", "body", "query"]))
    changed = replace(request, **{part: getattr(data.draw(requests), part)})
    assume(normalised(changed) != normalised(request))

    assert signature(sign(changed)) != signature(sign(request))


@given(
    request=requests,
    part=st.sampled_from(["secret_key", "access_key", "timestamp"]),
    value=st.text(min_size=1, max_size=20),
)
def test_a_change_of_key_account_or_time_changes_the_signature(
    request: Request, part: str, value: str
) -> None:
    assume(value not in {"sk", "ak", TIMESTAMP})

    assert signature(sign(request, **{part: value})) != signature(sign(request))


def normalised(request: Request) -> tuple[object, ...]:
    """A request as CC-FS tells it from others."""
    headers = {name.lower(): value for name, value in sorted(request.headers.items())}
    return request.method, request.path, headers, request.body, request.query


def test_a_request_without_parameters_has_no_line_for_them() -> None:
    request = Request(method="POST", path="/p", headers={"host": "h"})

    assert signing.canonical_request(request) == "POST\n/p\nhost\nhost:h\n"


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}])
def test_a_request_without_host_is_not_signed(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="host"):
        sign(Request(method="POST", path="/p", headers=headers))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2018, 7, 2, 2, 43, 8, tzinfo=UTC), "2018-07-02T02:43:08Z"),
        (datetime(2018, 7, 2, 2, 43, 8, 999_999, tzinfo=UTC), "2018-07-02T02:43:08Z"),
        (datetime(2018, 7, 2, 10, 43, 8, tzinfo=timezone(timedelta(hours=8))), "2018-07-02T02:43:08Z"),
        (datetime(2018, 12, 31, 23, 30, tzinfo=timezone(-timedelta(hours=1))), "2019-01-01T00:30:00Z"),
    ],
)
def test_a_moment_is_written_in_utc_without_fraction(moment: datetime, text: str) -> None:
    assert signing.format_timestamp(moment) == text


def test_a_moment_of_no_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        signing.format_timestamp(datetime(2018, 7, 2, 2, 43, 8))  # noqa: DTZ001
