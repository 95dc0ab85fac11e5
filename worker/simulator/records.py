"""Plausible rows of a bill's two kinds of CSV files.

Columns after the vendor's page cec_07_0831, "Definitions of CDR and Recording Index Files": one row a line,
without headings. All rows of an account have the same width: the size of a bill can be computed.
"""

from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

_CALL_TYPES = (0, 1, 6, 7)
_VDN = 170


class RecordedCall(NamedTuple):
    """A call, with what both files say of it."""

    call_id: str
    agent_id: int
    caller: int
    callee: int
    skill: int
    call_type: int
    waiting: datetime
    ringing: datetime
    talking: datetime
    ended: datetime


def make_call(random: Random, day: datetime) -> RecordedCall:
    """Invent a call of a day."""
    waiting = day + timedelta(seconds=random.randrange(80_000))
    ringing = waiting + timedelta(seconds=random.randrange(120))
    talking = ringing + timedelta(seconds=random.randrange(30))
    return RecordedCall(
        call_id=f"{int(waiting.timestamp()):010d}-{random.randrange(10**7):07d}",
        agent_id=random.randrange(100, 1000),
        caller=random.randrange(13 * 10**9, 14 * 10**9),
        callee=random.randrange(95_000, 96_000),
        skill=random.randrange(10, 100),
        call_type=random.choice(_CALL_TYPES),
        waiting=waiting,
        ringing=ringing,
        talking=talking,
        ended=talking + timedelta(seconds=random.randrange(3_000)),
    )


def call_row(app_id: str, call: RecordedCall, padding: int = 0) -> bytes:
    """Write a call's row of a call file; `padding` is the width of its last column."""
    waiting, ringing, talking, ended = map(_written, (call.waiting, call.ringing, call.talking, call.ended))
    times = f"{waiting},{ringing},{ringing},{talking},{talking},{ended}"
    device = f"2,{call.agent_id},{call.call_type},531,-1,{_VDN},1,{call.skill:05d}"
    return (
        f"{app_id},10000001,1,{call.agent_id},{call.call_id},{call.caller},{call.callee},{times},{device},"
        f"{'0' * padding}\r\n"
    ).encode()


def record_row(app_id: str, call: RecordedCall) -> bytes:
    """Write a call's row of a recording index."""
    file = f"/1/0/record/{_VDN}/{call.talking:%Y%m%d}/{call.agent_id}/{call.call_id}"
    return (
        f"{app_id},10000001,1,{call.agent_id},{call.call_id},{call.caller},{call.callee},"
        f"{_written(call.talking)},{_written(call.ended)},{file}.wav,0,,"
        f"Y:{file}.V3,{_VDN},{call.call_type},5,{call.skill:05d},{call.skill:05d}\r\n"
    ).encode()


def _written(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(" ")
