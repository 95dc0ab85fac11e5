"""`sign`: the request laid open, and no secret with it."""

import json

import aiohttp
import pytest

from tests.cli.conftest import Run, json_lines
from tests.installation import APP, Site, bill
from worker.net.tls import client_context

KEY = "secret"
"""The key that the site's account has."""


async def test_the_request_is_laid_open_and_nothing_sent(site: Site, run: Run) -> None:
    signed = await run(
        "sign", APP, bill(1), "--at", "2026-01-31T08:15:00Z", CCFS__HOST_HEADER="10.0.0.1:28080"
    )

    body = json.dumps(
        {"request": {"version": "2.0"}, "msgBody": {"billFileName": bill(1)}}, separators=(",", ":")
    )
    assert signed.returncode == 0
    assert f"POST {site.simulator.url}/CCFS/resource/ccfs/downloadBillFile\n" in signed.stdout
    assert "Host: 10.0.0.1:28080\n" in signed.stdout
    assert (
        f"Authorization: auth-v2/{APP}/2026-01-31T08:15:00Z/content-length;content-type;host/"
        in signed.stdout
    )
    assert f"\n{body}\n" in signed.stdout
    assert "\nhost:10.0.0.1%3A28080\n" in signed.stdout
    assert site.simulator.requests == []


async def test_the_key_never_shows_and_the_signature_only_in_part(run: Run) -> None:
    masked = await run("sign", APP, bill(1), "--at", "2026-01-31T08:15:00Z")
    whole = await run("sign", APP, bill(1), "--at", "2026-01-31T08:15:00Z", "--show-signature", "-o", "json")

    (shown,) = json_lines(whole.stdout)
    signature = shown["headers"]["Authorization"].rpartition("/")[2]
    assert len(signature) == 64
    assert signature not in masked.stdout
    assert f"/{signature[:6]}…{signature[-6:]}\n" in masked.stdout
    assert KEY not in masked.stdout + whole.stdout


async def test_what_it_shows_is_what_ccfs_takes(site: Site, run: Run) -> None:
    signed = await run("sign", APP, bill(1), "--show-signature", "--output", "json")

    (shown,) = json_lines(signed.stdout)
    tls = client_context(ca_file=site.simulator.ca_file)
    async with (
        aiohttp.ClientSession() as http,
        http.post(shown["url"], data=shown["body"].encode(), headers=shown["headers"], ssl=tls) as response,
    ):
        assert (response.status, (await response.read())[:2]) == (200, b"PK")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("stranger", bill(1)), 1, "UNKNOWN_APP: there is no key file"),
        ((APP, "nonsense"), 2, "billFileName"),
        ((APP, bill(1), "--at", "yesterday"), 2, "yesterday"),
    ],
)
async def test_what_cannot_be_signed_is_told(
    run: Run, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    signed = await run("sign", *arguments)

    assert (signed.returncode, signed.stdout) == (code, "")
    assert complaint in signed.stderr
