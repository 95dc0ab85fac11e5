"""The gate opens only when every reason is gone."""

import asyncio
from datetime import UTC, datetime

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


async def test_a_reason_keeps_the_time_at_which_it_came() -> None:
    now = [datetime(2026, 1, 31, 8, 0, tzinfo=UTC), datetime(2026, 1, 31, 8, 5, tzinfo=UTC)]
    gate = Gate(lambda: now[0])
    gate.close("storage", "full")
    began = now.pop(0)
    gate.close("storage", "fuller")

    assert gate.since == {"storage": began}
    assert gate.reasons == {"storage": "fuller"}

    gate.open("storage")
    assert gate.since == {}


async def test_closing_wakes_those_who_wait_for_it() -> None:
    gate = Gate()
    waiting = asyncio.create_task(gate.wait_closed())

    gate.close("storage", "full")

    await waiting
