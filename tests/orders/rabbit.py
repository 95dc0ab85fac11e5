"""RabbitMQ as the worker's use case sees it: a queue, sessions that break, confirms that come late or never.

Behind `worker.core.ports.Delivery`. What it does is what the documentation and our tests with real
brokers show; what it leaves out is everything that stays inside of `worker.broker`.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from schemas import FailedJob, Outcome
from tests.orders.rules import Rules
from worker.core.job import ATTEMPT_HEADER, Envelope, Hold, Job, hold_headers, read_job
from worker.core.retry import Retry
from worker.errors import JobError, NotConfirmedError, SessionLostError

_DELIVERY_LIMIT = 6
_GONE = "the session is over"


@dataclass(eq=False, slots=True)
class Message:
    """A message of the job queue, or a copy in a tier."""

    job_id: str
    body: bytes
    attempt: int = 1
    hold: Hold | None = None
    deliveries: int = 0
    has_queue: bool = True

    def __str__(self) -> str:
        return f"{self.job_id}#{self.attempt}"


class Rabbit:
    """The broker.

    Args:
        rules: Hear of all that happens.
        dice: Draws what happens.
        prefetch: Messages unsettled at most in a session.
    """

    def __init__(self, rules: Rules, dice: random.Random, *, prefetch: int) -> None:
        self.rules = rules
        self.dice = dice
        self.is_well = False
        self.holds = True
        """Whether jobs wait for their accounts' keys."""
        """While true it confirms everything, and soon."""
        self._prefetch = prefetch
        self._ready: deque[Message] = deque()
        self._dropped: deque[Message] = deque()
        self._in_tiers: set[Message] = set()
        self.orphans: dict[Letter, Message] = {}
        """In the worker's hands after their queue was deleted and their session lost."""
        self._connected = asyncio.Event()
        self._lines: list[Line] = []
        self.parked: set[str] = set()
        self.kept: set[str] = set()
        self.thrown_away: set[str] = set()
        """The jobs that lay in the job queue as it was deleted, or came back to it later."""

    @property
    def queued(self) -> set[str]:
        """The jobs that wait in the broker: in the job queue, a tier, or to be buried."""
        return {message.job_id for message in (*self._ready, *self._dropped, *self._in_tiers)}

    @property
    def held(self) -> set[str]:
        """The jobs whose message is with somebody."""
        unsettled = [message for line in self._lines for message in line.unsettled.values()]
        return {message.job_id for message in (*unsettled, *self.orphans.values())}

    def send(self, message: Message) -> None:
        """Put a message at the end of the job queue."""
        self._ready.append(message)
        self.pump()

    def wait_in_tier(self, message: Message, seconds: float) -> None:
        """Put a copy into a tier; it comes back to the job queue."""
        self._in_tiers.add(message)

        def come_back() -> None:
            self._in_tiers.discard(message)
            self.send(message)

        asyncio.get_running_loop().call_later(seconds, come_back)

    def connect(self, on_job: Callable[["Letter"], None], on_dropped: Callable[["Letter"], None]) -> "Line":
        """Open a session."""
        self.rules.tell("session opened")
        line = Line(self, on_job, on_dropped)
        self._lines.append(line)
        self.newest = line
        self._connected.set()
        self._connected = asyncio.Event()
        return line

    async def line_after(self, line: "Line") -> "Line":
        """Give the session after one that is lost, once there is one."""
        while self.newest is line:
            await self._connected.wait()
        return self.newest

    def cut(self) -> None:
        """Break the session that there is."""
        for line in self._lines:
            line.break_off()

    def delete_queue(self) -> None:
        """Delete the job queue; the worker declares it again. What is in hand belongs to no queue then."""
        self.rules.tell("job queue deleted")
        self.thrown_away.update(message.job_id for message in self._ready)
        self._ready.clear()
        for line in self._lines:
            for letter, message in line.unsettled.items():
                message.has_queue = False
                # On a broken line the worker hears nothing of it.
                letter.orphaned = letter.orphaned or line.is_whole

    def take_back(self, line: "Line") -> None:
        """A session is over for the broker: its messages go back to the front of the queue."""
        for letter, message in reversed(line.unsettled.items()):
            if letter.orphaned and not letter.has_missed:
                self.orphans[letter] = message
            else:
                self._return(message)
        line.unsettled.clear()
        self._lines.remove(line)
        self.pump()

    def lose_orphan(self, letter: "Letter") -> None:
        """An orphan is in nobody's hands any more."""
        if (message := self.orphans.pop(letter, None)) is not None:
            self.thrown_away.add(message.job_id)

    def give_back(self, message: Message) -> None:
        """A message came back by itself."""
        self._return(message)
        self.pump()

    def _return(self, message: Message) -> None:
        if message.has_queue:
            self._ready.appendleft(message)
        else:
            self.thrown_away.add(message.job_id)

    def pump(self) -> None:
        """Deliver whatever a session takes."""
        for line in self._lines:
            while line.consumes and self._ready and len(line.unsettled) < self._prefetch:
                self._give_out(line, self._ready.popleft())
            while self._dropped and line.is_whole:
                line.deliver(self._dropped.popleft(), line.on_dropped)

    def _give_out(self, line: "Line", message: Message) -> None:
        message.deliveries += 1
        if message.deliveries > _DELIVERY_LIMIT:
            self.rules.tell(f"give up on {message}")
            self._dropped.append(message)
        else:
            line.deliver(message, line.on_job)


class Line:
    """A session; each end learns by itself that it is over."""

    def __init__(
        self, rabbit: Rabbit, on_job: Callable[["Letter"], None], on_dropped: Callable[["Letter"], None]
    ) -> None:
        self.rabbit = rabbit
        self.on_job = on_job
        self.on_dropped = on_dropped
        self.unsettled: dict[Letter, Message] = {}
        self.is_whole = True
        """False once it is broken, whether or not the worker knows."""
        self.is_known_lost = False
        """True once the worker knows."""
        self.lost = asyncio.Event()
        self._consuming = False
        # No set: the order of one is not the same each time.
        self._words: dict[asyncio.Future[None], str] = {}

    @property
    def consumes(self) -> bool:
        """Whether it takes jobs."""
        return self._consuming and self.is_whole

    def consume(self) -> None:
        """Take jobs from now on."""
        self._consuming = True
        self.rabbit.pump()

    def pause(self) -> None:
        """Take no more jobs; what is on its way still comes."""
        self._consuming = False

    def break_off(self) -> None:
        """Be cut."""
        if not self.is_whole:
            return
        self.rabbit.rules.tell("session cut")
        self.is_whole = False
        loop, dice = asyncio.get_running_loop(), self.rabbit.dice
        loop.call_later(dice.choice((0, 0, 0.5, 3)), self.rabbit.take_back, self)
        loop.call_later(dice.choice((0, 0, 0.5, 3)), self.lose)

    def lose(self) -> None:
        """Let the worker know that it is over."""
        if self.is_known_lost:
            return
        self.rabbit.rules.tell("session lost")
        self.is_known_lost = True
        self.lost.set()
        words, self._words = self._words, {}
        for word in words:
            if not word.done():
                word.set_exception(SessionLostError(_GONE))

    def deliver(self, message: Message, receive: Callable[["Letter"], None]) -> None:
        """Send a message on its way to the worker."""
        letter = Letter(self, message)
        self.unsettled[letter] = message

        def arrive() -> None:
            if self.is_known_lost:
                letter.has_missed = True
                self.rabbit.lose_orphan(letter)
            else:
                self.rabbit.rules.tell(f"deliver {message}")
                letter.came_in_step = self.rabbit.rules.step
                receive(letter)

        asyncio.get_running_loop().call_later(self.rabbit.dice.choice((0, 0, 0.5)), arrive)

    def settle(self, letter: "Letter") -> Message | None:
        """Settle a message; None when the broker does not hear of it any more."""
        return self.unsettled.pop(letter, None) if self.is_whole or letter.orphaned else None

    async def publish(self, what: str, land: Callable[[], None]) -> None:
        """Have a message confirmed; `land` puts it where it goes.

        Raises:
            NotConfirmedError: Nacked or returned.
            SessionLostError: The session ended before the broker said anything.
        """
        if self.is_known_lost:
            raise SessionLostError(_GONE)
        word: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._words[word] = what
        try:
            self._send(what, land, word)
            await word
        finally:
            self._words.pop(word, None)

    def _send(self, what: str, land: Callable[[], None], word: asyncio.Future[None]) -> None:
        dice = self.rabbit.dice
        kind = "ack" if self.rabbit.is_well else dice.choices(("ack", "nack", "return"), (8, 1, 1))[0]
        reaches = self.is_whole or dice.random() < 0.5
        self.rabbit.rules.tell(f"publish {what}: {kind if reaches else 'lost'}")
        if not reaches:
            return
        # A message that was nacked may have been stored all the same.
        if kind == "ack" or (kind == "nack" and dice.random() < 0.5):
            land()
        wait = 0.0 if self.rabbit.is_well else dice.choice((0, 0, 0, 0.5, 120))
        asyncio.get_running_loop().call_later(wait, self._say, kind, word)

    def _say(self, kind: str, word: asyncio.Future[None]) -> None:
        if word.done() or not self.is_whole:
            return
        if kind == "ack":
            word.set_result(None)
        else:
            word.set_exception(NotConfirmedError(kind, unroutable=kind == "return"))


class Letter:
    """A message in the worker's hands: implements `worker.core.ports.Delivery`."""

    def __init__(self, line: Line, message: Message) -> None:
        self._line = line
        self._message = message
        self._rules = line.rabbit.rules
        self._is_confirmed = False
        self._is_settled = False
        self._is_told = False
        self._awaits_word = False
        self.came_in_step = 0
        self.keeps_failures = True
        self.orphaned = False
        self.has_missed = False
        """Whether it never came, since the session was over first."""
        self.redelivered = message.deliveries > 1
        held = hold_headers(message.hold) if message.hold else {}
        self.envelope = Envelope(
            body=message.body,
            message_id=message.job_id,
            headers={ATTEMPT_HEADER: message.attempt, **held},
        )

    @property
    def alive(self) -> bool:
        """Whether the worker may settle it, as far as it knows."""
        return self.orphaned or not self._line.is_known_lost

    async def publish(self, outcome: Outcome, job: Job) -> None:
        """Publish an event."""
        if outcome.status == "failed" and outcome.error_code in {"UNAUTHORIZED", "UNKNOWN_APP"}:
            if not self._is_told and self._line.rabbit.holds:
                self._rules.refused_for_good(job, outcome.error_code)
            # While the event is refused by the broker, the key may be mended.
            self._is_told = True
        elif outcome.status == "failed" and outcome.error_code not in {"INVALID_JOB", "DELIVERY_LIMIT"}:
            self._rules.attempt_counted(job.request, self.came_in_step)
        await self._publish(
            f"{outcome.status} of {job.job_id}", lambda: self._rules.outcomes[job.job_id].append(outcome)
        )
        self._is_confirmed = True

    async def keep(self, failure: FailedJob, job: Job) -> None:
        """Put a failed job where they are kept."""
        self._rules.require(self._rules.outcomes[job.job_id], "nothing is kept before its event")
        await self._publish(f"keep {job.job_id}", lambda: self._line.rabbit.kept.add(job.job_id))

    async def retry(self, retry: Retry) -> None:
        """Put a copy into a tier."""
        if retry.attempt > self._message.attempt:
            self._rules.attempt_counted(read_job(self.envelope).request, self.came_in_step)
        copy = Message(self._message.job_id, self._message.body, retry.attempt, self._message.hold)
        wait = retry.delay if retry.early is None else retry.early
        await self._publish(
            f"copy {copy} for {wait:.3f} s", lambda: self._line.rabbit.wait_in_tier(copy, wait)
        )
        self._is_confirmed = True

    async def hold(self, hold: Hold, wait: float, job: Job) -> None:
        """Put a copy where jobs wait for their account's key."""
        was = job.hold
        self._rules.require(job.attempt == self._message.attempt, "a hold counts no attempt")
        self._rules.require(was is None or hold.since == was.since, "a job's first hold counts")
        copy = Message(self._message.job_id, self._message.body, job.attempt, hold)
        await self._publish(
            f"hold {copy} for {wait:.3f} s", lambda: self._line.rabbit.wait_in_tier(copy, wait)
        )
        self._is_confirmed = True

    async def park(self, error: JobError, job: Job) -> None:
        """Put a copy among the dead letters."""
        await self._publish(f"park {job.job_id}", lambda: self._line.rabbit.parked.add(job.job_id))

    async def ack(self) -> None:
        """Settle: done with."""
        self._rules.require(self._is_confirmed, "nothing is acked before its confirm")
        self._settle("ack")
        self._line.rabbit.orphans.pop(self, None)

    async def give_back(self) -> None:
        """Settle: back to the queue."""
        if (message := self._settle("nack")) is not None:
            self._line.rabbit.give_back(message)
        self._line.rabbit.lose_orphan(self)

    async def reject(self) -> None:
        """Settle: back to the queue after a defect."""
        self._rules.require(False, "no defect on the way of a delivery")
        self._settle("reject")

    async def _publish(self, what: str, land: Callable[[], None]) -> None:
        self._rules.require(not self._is_settled, "nothing is published for a message that is settled")
        self._rules.require(not self._awaits_word, "time alone repeats no publish")
        self._awaits_word = True
        line = self._line
        while True:
            try:
                await line.publish(what, land)
            except NotConfirmedError:
                self._awaits_word = False
                raise
            except SessionLostError:
                if not self.orphaned:
                    raise
                line = await line.rabbit.line_after(line)
            else:
                self._awaits_word = False
                return

    def _settle(self, how: str) -> Message | None:
        if not self.alive:
            raise SessionLostError(_GONE)
        self._rules.tell(f"{how} {self._message}")
        self._rules.require(not self._is_settled, "a message is settled once")
        self._is_settled = True
        message = self._line.settle(self)
        self._line.rabbit.pump()
        return message
