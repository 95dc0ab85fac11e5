"""One attempt from the request to the file: real keys, a real socket, a real directory."""

import asyncio
import hashlib
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import pytest

from schemas import DownloadJob, ErrorCode
from tests.ccfs.raw import Peer, Request, Script, Server, answering, response, serving
from tests.ccfs.samples import JOB, KEY, NOW, PATH, OpenClient, make_zip
from worker.ccfs.keys import KeyDirectory, Keyring
from worker.core.accounts import Accounts, HoldPolicy
from worker.core.attempt import Downloader
from worker.core.outcome import StoredFile
from worker.core.ports import Source, Store
from worker.errors import JobError
from worker.storage import SharedStorage

FILE = make_zip(b"the call records")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with the account's key."""
    directory = tmp_path / "keys"
    directory.mkdir()
    (directory / "app1").write_text(KEY + "\n")
    return directory


@asynccontextmanager
async def downloading(
    script: Script, client_for: OpenClient, storage: SharedStorage, keys: Path, job_timeout: float = 60
) -> AsyncIterator[tuple[Downloader, Server]]:
    async with serving(script) as server, client_for(server.base_url) as client:
        yield (
            downloader_of(keys, client, storage, job_timeout),
            server,
        )


def downloader_of(keys: Path, source: Source, store: Store, job_timeout: float) -> Downloader:
    return Downloader(
        keys=keyring(keys),
        source=source,
        store=store,
        accounts=Accounts(HoldPolicy(), clock=lambda: NOW),
        job_timeout=job_timeout,
    )


def keyring(keys: Path) -> Keyring:
    return Keyring(KeyDirectory(keys), call=asyncio.to_thread, patience=60)


def signature(request: Request) -> str:
    return request.headers["authorization"].rpartition("/")[2]


async def test_a_job_ends_in_its_file(
    client_for: OpenClient, storage: SharedStorage, root: Path, keys: Path
) -> None:
    async with downloading(answering(response(FILE)), client_for, storage, keys) as (downloader, _):
        stored = await downloader.fetch(JOB)

    assert (root / PATH).read_bytes() == FILE
    assert (stored.path, stored.size_bytes, stored.reused) == (str(PATH), len(FILE), False)
    assert stored.sha256 == hashlib.sha256(FILE).hexdigest()


async def test_a_good_file_is_reused_without_a_request(
    client_for: OpenClient, storage: SharedStorage, keys: Path
) -> None:
    """Not even a key is needed."""
    async with downloading(answering(response(FILE)), client_for, storage, keys) as (downloader, server):
        first = await downloader.fetch(JOB)
        (keys / "app1").unlink()
        second = await downloader.fetch(JOB)

    assert (second.reused, second.sha256) == (True, first.sha256)
    assert len(server.requests) == 1


async def test_after_a_401_the_key_is_read_again_and_tried_once_more(
    client_for: OpenClient, storage: SharedStorage, root: Path, keys: Path
) -> None:
    """It may have been rotated after it was read."""

    async def rotate(peer: Peer) -> None:
        await peer.request()
        (keys / "app1").write_text("the-new-key")
        await peer.send(response(status=401))
        await peer.request()
        await peer.send(response(FILE))

    async with downloading(rotate, client_for, storage, keys) as (downloader, server):
        await downloader.fetch(JOB)

    first, second = server.requests
    assert signature(first) != signature(second)
    assert (root / PATH).read_bytes() == FILE


async def test_a_second_401_ends_the_attempt(
    client_for: OpenClient, storage: SharedStorage, keys: Path
) -> None:
    script = answering(response(status=401), keep=True)
    async with downloading(script, client_for, storage, keys) as (downloader, server):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.UNAUTHORIZED, 401)
    assert len(server.requests) == 2


async def test_a_key_taken_away_meanwhile_makes_the_account_unknown(
    client_for: OpenClient, storage: SharedStorage, keys: Path
) -> None:
    async def take_away(peer: Peer) -> None:
        await peer.request()
        (keys / "app1").unlink()
        await peer.send(response(status=401))

    async with downloading(take_away, client_for, storage, keys) as (downloader, server):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    assert caught.value.code is ErrorCode.UNKNOWN_APP
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
async def test_other_refusals_are_not_asked_again_in_the_same_attempt(
    client_for: OpenClient, storage: SharedStorage, keys: Path, status: int
) -> None:
    script = answering(response(status=status), keep=True)
    async with downloading(script, client_for, storage, keys) as (downloader, server):
        with pytest.raises(JobError):
            await downloader.fetch(JOB)

    assert len(server.requests) == 1


async def test_an_account_without_a_key_is_not_asked_for(
    client_for: OpenClient, storage: SharedStorage, keys: Path
) -> None:
    other = DownloadJob(app_id="nobody", bill_file_name="20260131_x.zip")
    async with downloading(answering(response(FILE)), client_for, storage, keys) as (downloader, server):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(other)

    assert caught.value.code is ErrorCode.UNKNOWN_APP
    assert server.requests == []


async def test_the_deadline_covers_the_whole_attempt(
    client_for: OpenClient, storage: SharedStorage, root: Path, keys: Path
) -> None:
    """A file that drips in for ever never meets the idle timeout."""
    hung_up = asyncio.Event()

    async def drip(peer: Peer) -> None:
        await peer.request()
        await peer.send(response(FILE * 1000)[:-100_000])
        await peer.until_hung_up()
        hung_up.set()

    async with downloading(drip, client_for, storage, keys, job_timeout=1) as (downloader, _):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)
        await hung_up.wait()

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.TIMEOUT, 200)
    assert "1 s" in caught.value.message
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("beginning", "status"),
    [(b"", None), (b"HTTP/1.1 200 OK\r\n", None), (response(FILE, status=503)[:-100], 503)],
    ids=["nothing", "half a head", "half a refusal"],
)
async def test_a_deadline_says_what_had_been_answered(
    client_for: OpenClient, storage: SharedStorage, keys: Path, beginning: bytes, status: int | None
) -> None:
    async def stall(peer: Peer) -> None:
        await peer.request()
        await peer.send(beginning)
        await peer.until_hung_up()

    async with downloading(stall, client_for, storage, keys, job_timeout=0.3) as (downloader, _):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    assert (caught.value.code, caught.value.http_status) == (ErrorCode.TIMEOUT, status)
    assert caught.value.asked


class SlowStorage:
    """A volume that does not answer."""

    async def find(self, path: PurePosixPath) -> StoredFile | None:
        await asyncio.Event().wait()
        return None

    async def store(self, *_: object, **__: object) -> StoredFile:
        raise NotImplementedError


async def test_a_deadline_before_ccfs_was_asked_is_told_as_that(client_for: OpenClient, keys: Path) -> None:
    async with client_for("http://127.0.0.1:9") as client:
        downloader = downloader_of(keys, client, SlowStorage(), 0.05)
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    assert (caught.value.code, caught.value.asked) == (ErrorCode.TIMEOUT, False)


async def test_cancelling_is_no_timeout(client_for: OpenClient, storage: SharedStorage, keys: Path) -> None:
    """It is the worker that drains."""
    asked = asyncio.Event()

    async def stall(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.until_hung_up()

    async with downloading(stall, client_for, storage, keys) as (downloader, _):
        fetching = asyncio.create_task(downloader.fetch(JOB))
        await asked.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching


CORRUPT = {
    "no sound zip": (response(FILE[:-30]), ErrorCode.CORRUPT_ARCHIVE),
    "too large": (response(FILE + b"\0" * 64 * 1024**2), ErrorCode.TOO_LARGE),
}


@pytest.mark.parametrize(("answer", "code"), CORRUPT.values(), ids=CORRUPT.keys())
async def test_a_bad_file_is_reported_with_its_http_status(
    client_for: OpenClient, storage: SharedStorage, root: Path, keys: Path, answer: bytes, code: ErrorCode
) -> None:
    async with downloading(answering(answer), client_for, storage, keys) as (downloader, _):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    assert (caught.value.code, caught.value.http_status) == (code, 200)
    assert [path for path in root.rglob("*") if path.is_file()] == []


def chain(error: BaseException | None) -> list[BaseException]:
    """An exception and all that led to it, hidden ones included."""
    return [] if error is None else [error, *chain(error.__cause__), *chain(error.__context__)]


SAYINGS = {
    "refused": response(status=400),
    "unauthorized": response(status=401),
    "no HTTP": b"nonsense\r\n\r\n",
    "bad header": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "nothing": b"",
    "cut": response(FILE)[:-5],
    "corrupt": response(FILE[:-5]),
    "redirected": response(status=302, Location="http://elsewhere.invalid/"),
}


@pytest.mark.parametrize("answer", SAYINGS.values(), ids=SAYINGS.keys())
async def test_no_key_or_signature_is_in_an_error_or_its_cause(
    client_for: OpenClient, storage: SharedStorage, keys: Path, answer: bytes
) -> None:
    """aiohttp's errors hold the headers of the request."""
    async with downloading(answering(answer), client_for, storage, keys) as (downloader, server):
        with pytest.raises(JobError) as caught:
            await downloader.fetch(JOB)

    shown = "".join(traceback.format_exception(caught.value))
    shown += "".join(f"{link!r} {link} {vars(link)} {link.args}" for link in chain(caught.value))
    assert KEY not in shown
    for request in server.requests:
        assert signature(request) not in shown
