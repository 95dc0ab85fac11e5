"""The gate opens only when every reason is gone."""

import asyncio

from worker.core.gate import Gate


async def test_each_reason_has_to_be_taken_back() -> None:
    gate = Gate()
    gate.close("storage", "full")
    gate.close("upstream", "silent")
    waiting = asyncio.create_task(gate.wait_open())

    gate.open("storage")
    assert not gate.is_open
    assert gate.reasons == {"upstream": "silent"}

    gate.open("upstream")
    await waiting
    assert gate.is_open


async def test_closing_wakes_those_who_wait_for_it() -> None:
    gate = Gate()
    waiting = asyncio.create_task(gate.wait_closed())

    gate.close("storage", "full")

    await waiting
