"""Keys are read as they are now, and never shown."""

import asyncio
import errno
import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import ErrorCode
from tests.storage.syscalls import fail
from worker.ccfs.keys import MAX_KEY_BYTES, KeyDirectory, Keyring
from worker.errors import JobError
from worker.storage import Threads

SECRET = "1qaz2wsx3edc4rfv5tgb"


@pytest.fixture
def keys(tmp_path: Path) -> KeyDirectory:
    return KeyDirectory(tmp_path)


def failure(keys: KeyDirectory, app_id: str = "app1") -> JobError:
    with pytest.raises(JobError) as caught:
        keys.read(app_id)
    return caught.value


KEPT = {
    "plain": (SECRET, SECRET),
    "a trailing newline": (f"{SECRET}\n", SECRET),
    "a trailing newline of Windows": (f"{SECRET}\r\n", SECRET),
    "no ASCII": ("ключ-钥匙\n", "ключ-钥匙"),
    "the longest": ("k" * MAX_KEY_BYTES, "k" * MAX_KEY_BYTES),
}


@pytest.mark.parametrize(("content", "key"), KEPT.values(), ids=KEPT.keys())
def test_a_key_is_what_its_file_holds_less_one_newline(
    keys: KeyDirectory, tmp_path: Path, content: str, key: str
) -> None:
    (tmp_path / "app1").write_bytes(content.encode())

    assert keys.read("app1") == key


VISIBLE = st.characters(exclude_categories=("C", "Z"))


@given(key=st.text(VISIBLE, min_size=1, max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_key_can_be_kept(keys: KeyDirectory, tmp_path: Path, key: str) -> None:
    (tmp_path / "app1").write_bytes(key.encode() + b"\n")

    assert keys.read("app1") == key


def test_each_account_has_its_own(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text("one")
    (tmp_path / "app2").write_text("two")

    assert [keys.read("app1"), keys.read("app2")] == ["one", "two"]


def test_a_key_is_read_again_once_it_is_a_second_old(tmp_path: Path) -> None:
    now = 1000.0
    keys = KeyDirectory(tmp_path, lambda: now)
    (tmp_path / "app1").write_text("first-key")
    assert keys.recent("app1") == "first-key"
    (tmp_path / "app1").write_text("other-key")

    assert keys.recent("app1") == "first-key"
    now += 1
    assert keys.recent("app1") == "other-key"


def test_a_key_that_was_refused_is_not_kept(keys: KeyDirectory, tmp_path: Path) -> None:
    """After a 401 the key is read twice: for the second request, and for the next job."""
    (tmp_path / "app1").write_text("first-key")
    keys.recent("app1")
    keys.read("app1")
    (tmp_path / "app1").write_text("other-key")

    assert keys.recent("app1") == "other-key"


def test_a_key_that_is_gone_is_not_kept(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text("first-key")
    keys.recent("app1")
    (tmp_path / "app1").unlink()

    assert failure(keys).code is ErrorCode.UNKNOWN_APP
    with pytest.raises(JobError):
        keys.recent("app1")


def test_a_key_written_anew_counts_immediately(keys: KeyDirectory, tmp_path: Path) -> None:
    """Even one of the same size at the same time: nothing about the file tells that it changed."""
    file = tmp_path / "app1"
    file.write_text("first-key")
    os.utime(file, (1, 1))
    assert keys.read("app1") == "first-key"

    file.write_text("other-key")
    os.utime(file, (1, 1))

    assert keys.read("app1") == "other-key"


def mount_secret(directory: Path, version: str, **keys: str) -> None:
    """Put keys into a directory as the kubelet does: files behind a link that is swapped in one step."""
    data = directory / f"..{version}"
    data.mkdir()
    for app_id, key in keys.items():
        (data / app_id).write_text(key)
        if not (directory / app_id).is_symlink():
            (directory / app_id).symlink_to(f"..data/{app_id}")
    (directory / "..data_tmp").symlink_to(data.name)
    (directory / "..data_tmp").replace(directory / "..data")


def test_a_secret_that_kubernetes_swaps_counts_immediately(keys: KeyDirectory, tmp_path: Path) -> None:
    mount_secret(tmp_path, "2026_01_31_08", app1="first")
    assert keys.read("app1") == "first"

    mount_secret(tmp_path, "2026_01_31_09", app1="second", app2="new")

    assert [keys.read("app1"), keys.read("app2")] == ["second", "new"]
    assert keys.names() == ["app1", "app2"]


def test_an_account_taken_away_is_unknown(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text(SECRET)
    assert keys.read("app1") == SECRET
    (tmp_path / "app1").unlink()

    error = failure(keys)

    assert error.code is ErrorCode.UNKNOWN_APP
    assert "app1" in error.message


def test_a_blank_within_a_key_is_part_of_it(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text("the old one\n")

    assert keys.read("app1") == "the old one"


UNUSABLE = {
    "empty": (b"", "empty"),
    "a newline alone": (b"\n", "empty"),
    "too large": (b"k" * (MAX_KEY_BYTES + 1), "larger than 4096 bytes"),
    "no text": (b"\xff\xfe" + SECRET.encode(), "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + SECRET.encode(), "byte order mark"),
    "a second newline": (SECRET.encode() + b"\n\n", "more than one line"),
    "a second key": (b"%b\n%b\n" % (SECRET.encode(), SECRET.encode()), "more than one line"),
    "a carriage return alone": (SECRET.encode() + b"\r", "more than one line"),
    "a blank behind it": (SECRET.encode() + b" \n", "a blank"),
    "a tab before it": (b"\t" + SECRET.encode(), "a blank"),
    "a tab in it": (b"key:\t" + SECRET.encode(), "a control character"),
    "a no-break space": (SECRET.encode() + "\u00a0".encode(), "a blank"),
    "a zero byte": (SECRET.encode() + b"\0", "a control character"),
}


@pytest.mark.parametrize(("content", "says"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_file_that_holds_no_key_makes_the_account_unknown(
    keys: KeyDirectory, tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "app1").write_bytes(content)

    error = failure(keys)

    assert error.code is ErrorCode.UNKNOWN_APP
    assert says in error.message
    assert "app1" in error.message


def test_what_is_no_file_makes_the_account_unknown(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")

    for app_id in ("directory", "pipe", "endless"):
        error = failure(keys, app_id)
        assert error.code is ErrorCode.UNKNOWN_APP
        assert "no regular file" in error.message


def test_keys_that_cannot_be_read_are_tried_again(tmp_path: Path) -> None:
    """A Secret that is not mounted, or with the wrong mode, must not cost all jobs in the queue."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text(SECRET)

    for keys in (KeyDirectory(tmp_path / "missing"), KeyDirectory(tmp_path / "file")):
        assert failure(keys).code is ErrorCode.STORAGE_ERROR
    assert failure(KeyDirectory(tmp_path), "loop").code is ErrorCode.STORAGE_ERROR


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
async def test_a_key_that_cannot_be_opened_is_tried_again(
    keys: KeyDirectory, tmp_path: Path, number: int
) -> None:
    (tmp_path / "app1").write_text(SECRET)
    with Threads(1) as thread:
        fail(thread, "openat", number)
        error = await thread.start(partial(failure, keys))

    assert error.code is ErrorCode.STORAGE_ERROR
    assert os.strerror(number) in error.message


def chain(error: BaseException | None) -> list[BaseException]:
    """An exception and all that led to it, hidden ones included."""
    return [] if error is None else [error, *chain(error.__cause__), *chain(error.__context__)]


@pytest.mark.parametrize(
    "content",
    [b"\xff" + SECRET.encode(), SECRET.encode() * 1000, SECRET.encode() + b"\n\n", b" " + SECRET.encode()],
)
def test_no_key_is_in_an_error_or_in_what_led_to_it(
    keys: KeyDirectory, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "app1").write_bytes(content)

    error = failure(keys)

    shown = "".join(traceback.format_exception(error))
    shown += "".join(f"{link!r} {link} {vars(link)} {link.args}" for link in chain(error))
    assert SECRET not in shown


def test_no_key_is_in_the_directorys_repr(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text(SECRET)
    keys.read("app1")

    assert SECRET not in f"{keys!r} {vars(keys)}"


async def test_a_directory_that_does_not_answer_fails_the_attempt(keys: KeyDirectory) -> None:
    """The event loop goes on meanwhile, and the bound is named."""

    async def never(_: Callable[[], str]) -> str:
        await asyncio.Event().wait()
        return ""

    keyring = Keyring(keys, call=never, patience=0.01)
    for read in (keyring.recent, keyring.read):
        with pytest.raises(JobError) as raised:
            await read("app1")
        assert raised.value.code is ErrorCode.STORAGE_ERROR
        assert raised.value.message == "the key file cannot be read (app1): no answer within 0.01 s"


async def test_a_key_at_hand_needs_no_thread(keys: KeyDirectory, tmp_path: Path) -> None:
    (tmp_path / "app1").write_text("first-key")
    calls: list[Callable[[], str]] = []

    async def call(read: Callable[[], str]) -> str:
        calls.append(read)
        return read()

    keyring = Keyring(keys, call=call, patience=60)
    assert {await keyring.recent("app1") for _ in range(5)} == {"first-key"}
    assert len(calls) == 1
    assert await keyring.read("app1") == "first-key"
    assert len(calls) == 2
