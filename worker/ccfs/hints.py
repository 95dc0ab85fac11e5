"""Says what may be behind a refusal of CC-FS, beyond what it said itself. Pure."""

import re
from datetime import datetime

from schemas import ErrorCode
from worker.ccfs.answers import HTTP_OK
from worker.errors import JobError

_HTTP_FORBIDDEN = 403
_REDIRECTS = range(300, 400)
_TURNED_AWAY = "CC-FS has answered nothing but HTTP 403 since the start: is this address allowed there?"
_SENT_ELSEWHERE = (
    "CC-FS has answered nothing but redirects since the start: something else answers in its place; is "
    "WORKER_CCFS__BASE_URL right?"
)
# Not by yarl (1.25): a host of 60,000 letters beyond ASCII keeps it and the event loop for half a second, and
# some others make it raise IndexError.
_ORIGIN = re.compile(
    r"(?P<scheme>https?://)([^/?#@\\]*@)?"
    r"(?P<host>([a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?)(?=[/?#]|\Z)",
    re.ASCII | re.IGNORECASE,
)
_WRONG_CLOCK = 60
"""Seconds. A clock that is further off than that is a likelier cause of a 401 than the key is."""
_EXACT = 1
"""Seconds within which two clocks agree, as far as a Date header of whole seconds can tell."""


class Admission:
    """Whether CC-FS lets requests from this address in.

    Its firewall answers 403 to everybody who is too fast, and to all requests of an address that is not
    registered there. The difference is whether anything was ever let in. It never redirects: whoever does
    stands in its place.

    Attributes:
        problem: One line that says so when requests were refused and none was let in; empty otherwise.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._has_let_in = False

    def heard(self, status: int) -> None:
        """Take in the HTTP status of an answer."""
        if status == HTTP_OK:
            self._has_let_in, self.problem = True, ""
        elif self._has_let_in:
            return
        elif status == _HTTP_FORBIDDEN:
            self.problem = _TURNED_AWAY
        elif status in _REDIRECTS:
            self.problem = _SENT_ELSEWHERE


def explain(
    error: JobError,
    admission: Admission,
    bill_file_name: str,
    *,
    location: str,
    there: datetime | None,
    here: datetime,
) -> JobError:
    """Add to the refusal of a file what its likely cause is.

    Args:
        error: The refusal.
        admission: What came of all requests so far.
        bill_file_name: The file's name.
        location: The Location header of the answer; empty without one.
        there: As for `skew`.
        here: As for `skew`.
    """
    if error.http_status == _HTTP_FORBIDDEN:
        error.add(admission.problem)
    elif error.http_status in _REDIRECTS:
        error.add(redirected(location))
    elif error.code is ErrorCode.UNAUTHORIZED:
        error.add(skew(there, here))
    elif error.code is ErrorCode.FILE_NOT_FOUND:
        error.add(dashes(bill_file_name))
    return error


def skew(there: datetime | None, here: datetime) -> str:
    """How far our clock is from that of CC-FS, which refuses signatures that are too old or too new.

    Args:
        there: The time by the Date header of its answer; None without a usable one.
        here: The time here when the answer came, timezone-aware.
    """
    if there is None:
        return ""
    seconds = round((here - there).total_seconds())
    if abs(seconds) <= _EXACT:
        return "the clocks here and there agree"
    apart = f"the clock here is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} that of CC-FS"
    return apart if abs(seconds) <= _WRONG_CLOCK else f"{apart}: set the wrong one before you change the key"


def redirected(location: str) -> str:
    """Who may be behind a redirect. Of its target only the origin is told: the rest may hold secrets."""
    found = _ORIGIN.match(location)
    to = f" to {found['scheme']}{found['host']}" if found else ""
    return f"the redirect{to} is not CC-FS's, which sends none: see WORKER_CCFS__BASE_URL, or a proxy"


def dashes(bill_file_name: str) -> str:
    """What to try when CC-FS has no file of a name with dashes in its responseId."""
    if "-" not in bill_file_name:
        return ""
    return "the responseId has dashes, which the vendor's own sample leaves out of the file's name"
