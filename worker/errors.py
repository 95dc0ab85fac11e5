"""The errors that pass from one room of the worker to another."""

import re

from schemas import ErrorCode

_MAX_MESSAGE = 500
_AUTHORIZATION = re.compile(r"auth-v2/\S+")


def one_line(text: str, limit: int = _MAX_MESSAGE) -> str:
    """Make foreign text fit for events, logs and headers: one printable, bounded line without a signature."""
    line = text[: 4 * limit]
    # Most of it is printable, as the names of a zip's entries are: going through it takes five times as long.
    if not line.isprintable():
        line = "".join(char if char.isprintable() else " " for char in line)
    line = _AUTHORIZATION.sub("auth-v2/***", " ".join(line.split()))
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


class JobError(Exception):
    """Why one attempt at a job failed. Its attributes become fields of the outcome.

    Attributes:
        code: The contract's error code. `worker.core.retry` says what follows it, unless a watch finds that a
            dependency is out, or the account is held: then the job waits.
        message: One line for a human. It goes into events, logs and message headers, so it must
            hold no key and no other secret.
        result_code: CC-FS's own `resultCode`, when it gave one.
        http_status: The HTTP status of CC-FS's answer, when there was one.
        retry_after: Seconds that the peer asked us to wait (RFC 9110, section 10.2.3).
        asked: False when the attempt ended before CC-FS was asked, and so says nothing about it.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        result_code: str | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
        asked: bool = True,
    ) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(f"{code}: {self.message}")
        self.result_code = result_code
        self.http_status = http_status
        self.retry_after = retry_after
        self.asked = asked

    def add(self, hint: str) -> None:
        """Add to the message what else may help to find the cause; as bound as the message itself."""
        if hint:
            self.message = one_line(f"{self.message}; {hint}")
            self.args = (f"{self.code}: {self.message}",)

    @property
    def log_fields(self) -> dict[str, object]:
        """Its fields in a log line. Those of CC-FS's answer are there only if it answered."""
        answer = {"result_code": self.result_code, "http_status": self.http_status}
        given = {name: value for name, value in answer.items() if value is not None}
        return {"code": self.code, "reason": self.message, **given}


class DeferredError(Exception):
    """The job is deferred: it cannot be tried now, for no reason of its own.

    It waits in the broker, and no attempt is counted.

    Attributes:
        wait: Seconds until its turn may come; None when that is not known.
    """

    def __init__(self, message: str, *, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class BrokerError(Exception):
    """The broker could not be reached, refused us, or went away. The text says which, and what to do."""


class SessionLostError(BrokerError):
    """The session that a delivery came from is over: the broker delivers the message again."""


class NotConfirmedError(BrokerError):
    """The broker did not take a message for good: it was returned or refused.

    In a command also when it was not confirmed in time. Then it may or may not have been taken.

    Attributes:
        unroutable: True when the broker had no queue for the message.
    """

    def __init__(self, message: str, *, unroutable: bool = False) -> None:
        super().__init__(message)
        self.unroutable = unroutable
