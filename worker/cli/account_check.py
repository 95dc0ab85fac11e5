"""`ccfs-worker check --app`: does CC-FS accept what is signed with an account's key?"""

import asyncio
import uuid

from schemas import DownloadJob
from worker import wiring
from worker.ccfs import CcfsClient, host_and_port
from worker.ccfs.keys import KeyDirectory
from worker.cli.daemon import in_daemon_thread
from worker.cli.quantities import age
from worker.errors import JobError
from worker.finding import Finding, fine, wrong
from worker.settings import SigningSettings

_PATIENCE = 15.0
"""Seconds for the key, and for each request."""
_RIGHT = "signature, key, Host and clock are right"
_LONG_AGO = "20000101"
_NOT_FOUND = frozenset({"0300011", "0300012"})
_FLOW_CONTROL = frozenset({"0300008", "0300009"})
_UNAUTHORIZED, _FORBIDDEN = 401, 403


async def check_account(settings: SigningSettings, *, app_id: str) -> list[Finding]:
    """Request a file that cannot exist, signed with an account's key: the answer says whether it is accepted.

    CC-FS answers with the result code of a missing file only a request that it has authenticated.
    """
    subject = f"account {app_id}"
    try:
        # Names of at most 36 characters, which nobody has asked CC-FS to generate.
        job = DownloadJob(app_id=app_id, bill_file_name=f"{_LONG_AGO}_{uuid.uuid4().hex}.zip")
    except ValueError:
        return [wrong(subject, "no account can be called so", "check the name")]
    try:
        async with asyncio.timeout(_PATIENCE):
            key = await in_daemon_thread(lambda: KeyDirectory(settings.credentials.dir).read(app_id))
    except TimeoutError:
        detail = f"its key cannot be read within {_PATIENCE:g} s"
        return [wrong(subject, detail, "see whether its volume answers")]
    except JobError as exc:
        return [wrong(subject, exc.message, f"put the key into {settings.credentials.dir / app_id}")]
    async with wiring.ccfs_client(settings.ccfs, wiring.ccfs_tls(settings.ccfs)) as client:
        try:
            async with asyncio.timeout(_PATIENCE), client.open(job, key):
                return [fine(subject, f"{_RIGHT}: CC-FS sent a file")]
        except TimeoutError:
            return [wrong(subject, "CC-FS did not answer in time", "see what the part CC-FS says")]
        except JobError as exc:
            return [await _judged(subject, exc, settings, client, app_id)]


async def _judged(
    subject: str, error: JobError, settings: SigningSettings, client: CcfsClient, app_id: str
) -> Finding:
    """Say what an answer that is no file means for the account's key."""
    if error.http_status is None:
        return wrong(subject, f"not tried: {error.message}", "see what the part CC-FS says")
    if error.http_status == _UNAUTHORIZED:
        facts = await _facts(settings, client, app_id)
        remedy = "compare key, Host and clock with CC-FS's; `ccfs-worker sign` lays the request open"
        return wrong(subject, f"CC-FS refuses the signature (HTTP 401): {facts}", remedy)
    if not error.result_code:
        return _judged_status(subject, error)
    if error.result_code in _NOT_FOUND:
        return fine(subject, f"{_RIGHT}: CC-FS has no such file (resultCode {error.result_code})")
    if error.result_code in _FLOW_CONTROL:
        return fine(subject, f"CC-FS asks to slow down (resultCode {error.result_code}): try again later")
    return wrong(subject, error.message, "compare what `ccfs-worker sign` shows with CC-FS's description")


async def _facts(settings: SigningSettings, client: CcfsClient, app_id: str) -> str:
    """What a signature depends on here, for a person to compare."""
    path = settings.credentials.dir / app_id
    written = (await in_daemon_thread(path.stat)).st_mtime
    host = settings.ccfs.host_header or host_and_port(settings.ccfs.base_url)
    try:
        async with asyncio.timeout(_PATIENCE):
            there = (await client.probe()).date
    except (JobError, TimeoutError):
        there = None
    clocks = "the clocks could not be compared"
    if there is not None:
        # The header has whole seconds.
        clocks = f"CC-FS's clock is {(there - wiring.now()).total_seconds():+.0f} s from here"
    return (
        f"the key is from {path}, written {age(wiring.now().timestamp() - written)} ago; "
        f"Host was {host}; {clocks}"
    )


def _judged_status(subject: str, error: JobError) -> Finding:
    if error.http_status == _FORBIDDEN:
        return wrong(
            subject,
            "HTTP 403 from what stands before CC-FS",
            "have this machine's address let in there; if it is, the rate is limited, or the key is wrong",
        )
    return wrong(
        subject,
        f"an answer that is not CC-FS's own: {error.message}",
        "see whether a proxy or firewall answers in its place: WORKER_CCFS__BASE_URL, WORKER_CCFS__PROXY_URL",
    )
