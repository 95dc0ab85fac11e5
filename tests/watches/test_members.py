"""How many members of the queues run: asked in the background, and a failure is told once."""

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from worker.broker.management import QueueView
from worker.errors import BrokerError
from worker.watches.members import MemberWatch

JOBS = QueueView(name="jobs", type="quorum", members=("a", "b", "c"), online=("a", "c", "elsewhere"))
OLD = QueueView(name="old", type="classic")


class Script:
    """Answers in turn, and says when it has no more answers."""

    def __init__(self, *answers: BrokerError | Mapping[str, QueueView]) -> None:
        self.answers = list(answers)
        self.is_over = asyncio.Event()

    async def ask(self) -> Mapping[str, QueueView]:
        if not self.answers:
            self.is_over.set()
            await asyncio.Event().wait()
        answer = self.answers.pop(0)
        if isinstance(answer, BrokerError):
            raise answer
        return answer


async def watched(*answers: BrokerError | Mapping[str, QueueView]) -> tuple[MemberWatch, list[str]]:
    """A watch that has had these answers, and what it logged."""
    script = Script(*answers)
    watch = MemberWatch(script.ask, interval=0)
    with capture_logs() as lines:
        running = asyncio.create_task(watch.run())
        await script.is_over.wait()
        running.cancel()
    return watch, [f"{line['event']}: {line.get('reason', '')}" for line in lines]


async def test_members_are_counted_and_queues_without_any_left_out() -> None:
    watch, lines = await watched({"jobs": JOBS, "old": OLD})

    assert (watch.lately, lines) == ({"jobs": (3, 2)}, [])


async def test_a_failure_is_told_once_and_its_end_too() -> None:
    watch, lines = await watched(
        {"jobs": JOBS}, BrokerError("silent"), BrokerError("refused"), {"jobs": JOBS}, BrokerError("gone")
    )

    assert lines == [
        "broker.members_unknown: silent",
        "broker.members_known: ",
        "broker.members_unknown: gone",
    ]
    assert watch.lately == {"jobs": (3, 2)}


async def test_old_numbers_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _ = await watched({"jobs": JOBS}, BrokerError("silent"))
    monkeypatch.setattr("worker.watches.members._KEPT_FOR", -1.0)

    assert watch.lately == {}


async def test_without_a_management_api_there_is_nothing_to_do() -> None:
    watch = MemberWatch(None)
    await watch.run()

    assert watch.lately == {}
