"""Job messages that no worker may act on: each must end in one INVALID_JOB event and one parked copy."""

import gzip
import json
from typing import NamedTuple

from schemas import MAX_BODY_BYTES

APP_ID = "app1"
FILE = "20260131_9239cb50a8384bb0ab503441bf089446.zip"
GOOD = json.dumps({"appId": APP_ID, "billFileName": FILE}).encode()


class Malformed(NamedTuple):
    """A body, and what its outcome must say.

    Attributes:
        body: The message as published.
        blames: A part of the outcome's `errorMessage`, which tells the publisher what to mend.
        app_id: The outcome's `appId`: what can still be read of the message.
        bill_file_name: The outcome's `billFileName`: the same.
    """

    body: bytes
    blames: str
    app_id: str | None = None
    bill_file_name: str | None = None


def _app(value: object) -> Malformed:
    """A wrong account beside a good file."""
    body = json.dumps({"appId": value, "billFileName": FILE}).encode()
    return Malformed(body, "appId", bill_file_name=FILE)


def _file(value: object) -> Malformed:
    """A wrong file beside a good account."""
    body = json.dumps({"appId": APP_ID, "billFileName": value}).encode()
    return Malformed(body, "billFileName", app_id=APP_ID)


def _with(member: bytes) -> bytes:
    """The good job with one more member, given as raw JSON."""
    return GOOD[:-1] + b", " + member + b"}"


def _padded(size: int) -> bytes:
    """The good job, made this large by a field that would be ignored."""
    empty = _with(b'"x": ""')
    return _with(b'"x": "' + b"x" * (size - len(empty)) + b'"')


_NOT_JSON = {
    "empty body": b"",
    "only white space": b" \r\n\t ",
    "plain text": b"please download everything",
    "XML": b"<job><appId>app1</appId></job>",
    "form encoding": b"appId=app1&billFileName=" + FILE.encode(),
    "not UTF-8": b"\xff\xfe\xfa",
    "bad UTF-8 in a field": GOOD.replace(b"app1", b"app\xff"),
    "bad UTF-8 in an unknown field": _with(b'"x": "\xc3\x28"'),
    "overlong UTF-8 slash": GOOD.replace(b"app1", b"..\xc0\xafapp1"),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "gzip": gzip.compress(GOOD, mtime=0),
    "null bytes only": b"\0" * 64,
    "null byte behind": GOOD + b"\0",
    "raw null byte in a field": GOOD.replace(b"app1", b"app\x001"),
    "raw line break in a field": GOOD.replace(b"app1", b"app\n1"),
    "cut off": GOOD[:-1],
    "trailing comma": GOOD[:-1] + b",}",
    "single quotes": GOOD.replace(b'"', b"'"),
    "comment": GOOD + b" // urgent",
    "two jobs in a row": GOOD + b"\n" + GOOD,
    "NaN": _with(b'"priority": NaN'),
    "minus Infinity": _with(b'"priority": -Infinity'),
    "leading zero": _with(b'"priority": 01'),
    "integer of 5,000 digits": _with(b'"priority": ' + b"9" * 5000),
    "lone surrogate in appId": GOOD.replace(b"app1", b"\\ud800"),
    "lone surrogate in billFileName": GOOD.replace(b"_", b"_\\udfff"),
    "60,000 open brackets": b"[" * 60_000,
    "nested 10,000 deep in a field": _with(b'"x": ' + b"[" * 10_000 + b"]" * 10_000),
    "10,000 nested objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}

_NOT_AN_OBJECT = {
    "null": b"null",
    "true": b"true",
    "number": b"20260131",
    "number beyond any float": b"1e999",
    "string": json.dumps(GOOD.decode()).encode(),
    "empty array": b"[]",
    "array of a job": b"[" + GOOD + b"]",
    "array of the values": json.dumps([APP_ID, FILE]).encode(),
}

MALFORMED: dict[str, Malformed] = {
    **{name: Malformed(body, "JSON") for name, body in _NOT_JSON.items()},
    **{name: Malformed(body, "object") for name, body in _NOT_AN_OBJECT.items()},
    # Size.
    "65 KiB": Malformed(_padded(65 * 1024), "bytes"),
    "one byte too many": Malformed(_padded(MAX_BODY_BYTES + 1), "bytes"),
    "one byte too many, of white space": Malformed(GOOD.ljust(MAX_BODY_BYTES + 1), "bytes"),
    # Fields that are not there.
    "empty object": Malformed(b"{}", "appId"),
    "no appId": Malformed(json.dumps({"billFileName": FILE}).encode(), "appId", bill_file_name=FILE),
    "no billFileName": Malformed(json.dumps({"appId": APP_ID}).encode(), "billFileName", app_id=APP_ID),
    "names in snake case": Malformed(
        json.dumps({"app_id": APP_ID, "bill_file_name": FILE}).encode(), "appId"
    ),
    "names in upper case": Malformed(GOOD.upper(), "appId"),
    "null byte in a name": Malformed(GOOD.replace(b"appId", b"app\\u0000Id"), "appId", bill_file_name=FILE),
    "job inside a job": Malformed(b'{"job": ' + GOOD + b"}", "appId"),
    # Of duplicate keys the last counts.
    "appId twice, bad last": Malformed(_with(b'"appId": "../app1"'), "appId", bill_file_name=FILE),
    "appId twice, null last": Malformed(_with(b'"appId": null'), "appId", bill_file_name=FILE),
    "appId twice, bad last under an escaped name": Malformed(
        _with(b'"\\u0061ppId": "../app1"'), "appId", bill_file_name=FILE
    ),
    "billFileName twice, bad last": Malformed(
        _with(b'"billFileName": "../../etc/passwd"'), "billFileName", app_id=APP_ID
    ),
    "billFileName thrice, bad last": Malformed(
        _with(b'"billFileName": "20260131_b.zip", "billFileName": 1'), "billFileName", app_id=APP_ID
    ),
    "billFileName twice among many fields, bad last": Malformed(
        _with(b", ".join(b'"x%d": 0' % n for n in range(40)) + b', "billFileName": "x.zip"'),
        "billFileName",
        app_id=APP_ID,
    ),
    # Wrong types.
    "appId null": _app(None),
    "appId number": _app(1),
    "appId huge number": _app(10**400),
    "appId false": _app(False),
    "appId array": _app([APP_ID]),
    "appId object": _app({"appId": APP_ID}),
    "billFileName null": _file(None),
    "billFileName number": _file(20260131),
    "billFileName true": _file(True),
    "billFileName array": _file([FILE]),
    "billFileName object": _file({"name": FILE}),
    # An account that is none.
    "appId empty": _app(""),
    "appId of 65 characters": _app("a" * 65),
    "appId is a dot": _app("."),
    "appId is two dots": _app(".."),
    "appId begins with a dot": _app(".app1"),
    "appId climbs": _app("../app1"),
    "appId climbs in the middle": _app("app1/../app2"),
    "appId absolute": _app("/etc"),
    "appId climbs with backslashes": _app("..\\app1"),
    "appId percent-encoded": _app("%2e%2e%2fapp1"),
    "appId with a null byte": _app("app1\0"),
    "appId with a line break behind": _app("app1\n"),
    "appId with a carriage return": _app("app1\r"),
    "appId with a space": _app("app 1"),
    "appId with a routing wildcard": _app("#"),
    "appId with a letter outside ASCII": _app("äpp1"),
    "appId with full-width digits": _app("app\uff11"),
    "appId in an overlong line": _app("a" * 60_000),
    # A file that is none.
    "billFileName empty": _file(""),
    "billFileName of 50 characters": _file(f"20260131_{'a' * 37}.zip"),
    "billFileName climbs": _file("../../etc/passwd"),
    "billFileName climbs before the date": _file(f"../{FILE}"),
    "billFileName climbs behind the date": _file("20260131_/../../a.zip"),
    "billFileName absolute": _file(f"/{FILE}"),
    "billFileName with backslashes": _file("20260131_..\\a.zip"),
    "billFileName with a null byte": _file("20260131_a\0.zip"),
    "billFileName with a null byte behind": _file(f"{FILE}\0"),
    "billFileName with a line break behind": _file(f"{FILE}\n"),
    "billFileName hidden": _file(f".{FILE}"),
    "billFileName without response id": _file("20260131_.zip"),
    "billFileName without underscore": _file("20260131a.zip"),
    "billFileName with a second underscore": _file("20260131_a_b.zip"),
    "billFileName with a space before": _file(f" {FILE}"),
    "billFileName without ending": _file("20260131_a"),
    "billFileName with the wrong ending": _file("20260131_a.csv"),
    "billFileName with a second ending": _file("20260131_a.zip.zip"),
    "billFileName with an ending in upper case": _file("20260131_a.ZIP"),
    "billFileName with a letter outside ASCII": _file("20260131_ä.zip"),
    "30 February": _file("20260230_a.zip"),
    "29 February of a common year": _file("20250229_a.zip"),
    "29 February of a century": _file("21000229_a.zip"),
    "31 April": _file("20260431_a.zip"),
    "month 0": _file("20260001_a.zip"),
    "month 13": _file("20261301_a.zip"),
    "day 0": _file("20260100_a.zip"),
    "day 32": _file("20260132_a.zip"),
    "year 0": _file("00000101_a.zip"),
    "date of seven digits": _file("2026131_a.zip"),
    "date of nine digits": _file("202601310_a.zip"),
    "date with hyphens": _file("2026-01-31_a.zip"),
    "date with a sign": _file("+2026131_a.zip"),
    "date in Arabic digits": _file("\u0662\u0660\u0662\u0666\u0660\u0661\u0663\u0661_a.zip"),
    "date in full-width digits": _file("\uff12\uff10\uff12\uff16\uff10\uff11\uff13\uff11_a.zip"),
    # Both.
    "both fields climb": Malformed(b'{"appId": "..", "billFileName": "../x"}', "billFileName"),
    "both fields swapped": Malformed(
        json.dumps({"appId": FILE, "billFileName": APP_ID}).encode(), "billFileName", app_id=FILE
    ),
}
"""By name; a superset of every kind of harm that the contract's rules keep out."""
