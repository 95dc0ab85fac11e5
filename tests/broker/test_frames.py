"""Frames written by hand are what pamqp reads, and those read by hand what it writes."""

import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import FrameTypes
from pamqp.header import ContentHeader

from worker.broker import frames
from worker.broker.properties import HEADERS, MESSAGE_ID, Properties, short, table
from worker.broker.properties import written as written_values

TAGS = st.integers(1, 2**63 - 1)
CHANNELS = st.integers(1, 2047)
SHORT = st.text(max_size=60).filter(lambda text: len(text.encode()) <= 255)


def read(data: bytes) -> list[tuple[int, FrameTypes]]:
    """All frames in some bytes, by pamqp: their channels and what they are."""
    found = []
    while data:
        consumed, channel, frame = pamqp.frame.unmarshal(data)
        found.append((channel, frame))
        data = data[consumed:]
    return found


def fields(frame: FrameTypes) -> dict[str, object]:
    assert isinstance(frame, Frame)
    return dict(frame)


@given(channel=CHANNELS, tag=TAGS)
def test_settling_is_read_as_meant(channel: int, tag: int) -> None:
    written = frames.ack(channel, tag) + frames.nack(channel, tag) + frames.reject(channel, tag)

    (on, ack), (_, nack), (_, reject) = read(written)

    assert on == channel
    assert isinstance(ack, spec.Basic.Ack)
    assert fields(ack) == {"delivery_tag": tag, "multiple": False}
    assert isinstance(nack, spec.Basic.Nack)
    assert fields(nack) == {"delivery_tag": tag, "multiple": False, "requeue": True}
    assert isinstance(reject, spec.Basic.Reject)
    assert fields(reject) == {"delivery_tag": tag, "requeue": True}


@given(channel=CHANNELS, exchange=SHORT, key=SHORT, body=st.binary(max_size=1000), message_id=SHORT)
def test_a_publish_is_read_as_meant(
    channel: int, exchange: str, key: str, body: bytes, message_id: str
) -> None:
    """In frames no larger than was negotiated, whatever the body's size."""
    frame_max = 320
    values = {MESSAGE_ID: short(message_id), HEADERS: table({"a": "b"})}

    written = frames.publish(
        channel,
        frames.Message(body, Properties(written_values(values))),
        exchange=exchange,
        routing_key=key,
        frame_max=frame_max,
    )

    (on, method), (_, header), *bodies = read(written)
    assert on == channel
    assert isinstance(method, spec.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == (exchange, key, True)
    assert isinstance(header, ContentHeader)
    assert header.body_size == len(body)
    assert (header.properties.message_id or "", header.properties.headers) == (message_id, {"a": "b"})
    pieces = [piece.value for _, piece in bodies if isinstance(piece, ContentBody)]
    assert b"".join(pieces) == body
    assert all(len(piece) <= frame_max - 8 for piece in pieces)


def test_a_name_that_is_too_long_is_refused() -> None:
    empty = frames.Message(b"", Properties(b"\0\0"))

    with pytest.raises(ValueError, match="longer than the 255 bytes"):
        frames.publish(1, empty, exchange="x" * 256, routing_key="", frame_max=4096)


@given(tag=TAGS, multiple=st.booleans())
def test_confirms_are_read(tag: int, multiple: bool) -> None:
    for method in (spec.Basic.Ack(tag, multiple=multiple), spec.Basic.Nack(tag, multiple=multiple)):
        assert frames.read_confirm(payload_of(method)) == (tag, multiple)


@given(
    consumer=SHORT,
    tag=TAGS,
    redelivered=st.booleans(),
    bodies=st.lists(st.binary(min_size=1, max_size=30), max_size=4),
)
def test_a_delivery_is_put_together_from_its_frames(
    consumer: str,
    tag: int,
    redelivered: bool,
    bodies: list[bytes],
) -> None:
    whole: list[tuple[bytes, frames.Message]] = []
    assembly = frames.Assembly(frames.DELIVER, lambda *parts: whole.append(parts))
    method = spec.Basic.Deliver(consumer, tag, redelivered, "exchange", "key")
    header = ContentHeader(body_size=sum(map(len, bodies)), properties=Basic.Properties(message_id="m1"))

    for _ in range(2):
        assert assembly.take(frames.METHOD, payload_of(method))
        assert assembly.take(frames.HEADER, payload_of(header))
        assert all(assembly.take(frames.BODY, body) for body in bodies)

    assert len(whole) == 2
    for read_method, message in whole:
        assert frames.read_deliver(read_method) == (tag, redelivered)
        assert (message.body, message.cut) == (b"".join(bodies), None)
        assert message.properties.short(MESSAGE_ID) == "m1"


def test_what_is_not_followed_is_left() -> None:
    """The answer to a basic.get looks the same, but for its method."""
    assembly = frames.Assembly(frames.DELIVER, lambda *_: pytest.fail("nothing was delivered"))

    assert not assembly.take(frames.METHOD, payload_of(spec.Basic.GetOk(1, False, "", "", 0)))
    assert not assembly.take(frames.HEADER, payload_of(ContentHeader(body_size=1)))
    assert not assembly.take(frames.BODY, b"x")


def payload_of(frame: FrameTypes) -> bytes:
    return pamqp.frame.marshal(frame, 1)[frames.FRAME_HEAD.size : -1]
