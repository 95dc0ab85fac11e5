"""`check`: what is right and wrong, each with what to do, and nothing changed."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.amqp import outside_channel
from tests.cli.conftest import Run, json_lines
from tests.commands import CCFS_WORKER, command
from tests.installation import APP, Site, bill
from tests.management import cluster, serving
from worker.simulator.faults import Fault, NotZip, ResultCode, StatusCode, Waf

NOWHERE = "127.0.0.1:9"


def wrong(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("✗")]


async def test_a_good_installation_is_found_good_and_left_as_it_was(site: Site, run: Run) -> None:
    await site.publish(bill(1))

    checked = await run("check")

    assert (checked.returncode, checked.stderr) == (0, "")
    assert wrong(checked.stdout) == []
    for line in (
        f"✓ WORKER_STORAGE__ROOT: {site.root} (environment)",
        "✓ storage atomic rename: ",
        f"✓ queue {site.names.jobs}: messages ready: 1, consumers: 0",
        f"✓ permission to publish to {site.names.results}: granted",
        f"✓ bindings of exchange {site.names.results}: workers bind {site.names.results_queue} when they ",
        "cannot be seen over AMQP; while no queue is bound, jobs wait for their events",
        "✓ members of queues: not known, nor which policies are in effect: AMQP does not tell.",
        f"✓ keys: of 1 accounts in {site.keys}",
        f"✓ CC-FS: {site.simulator.url} answers",
        "✓ clock: ",
    ):
        assert line in checked.stdout
    assert list(site.root.iterdir()) == []
    assert await site.queue_length(site.names.jobs) == 1
    assert not site.messages


async def test_scripts_get_one_object_a_line(run: Run) -> None:
    checked = await run("check", "--output", "json", AMQP__URL=f"amqp://guest:guest@{NOWHERE}/")

    findings = json_lines(checked.stdout)
    assert checked.returncode == 1
    assert {tuple(finding) for finding in findings} == {("name", "ok", "detail", "remedy")}
    assert [finding["name"] for finding in findings if not finding["ok"]] == ["broker"]


def test_with_nothing_set_all_that_is_required_is_named(tmp_path: Path) -> None:
    checked = command(CCFS_WORKER, "check", settings={"WORKER_AMQP__URL": f"amqp://{NOWHERE}/"}, cwd=tmp_path)

    assert checked.returncode == 1
    assert "Traceback" not in checked.stderr
    bad = "\n".join(wrong(checked.stdout))
    for name in ("WORKER_CCFS__BASE_URL", "WORKER_CREDENTIALS__DIR", "WORKER_STORAGE__ROOT"):
        assert f"✗ {name}: is required and not set" in bad
    assert f"✗ broker: RabbitMQ at {NOWHERE}/ cannot be reached" in bad
    for part in ("storage", "keys", "CC-FS"):
        assert f"✗ {part}: not tried → mend its settings first" in bad


async def test_a_misspelt_variable_is_named_beside_the_right_one(run: Run) -> None:
    checked = await run("check", STORAGE__ROOTS="/srv", AMQP__URL=f"amqp://{NOWHERE}/")

    assert "✗ WORKER_STORAGE__ROOTS: is no setting; did you mean WORKER_STORAGE__ROOT?" in checked.stdout


async def test_a_refused_login_is_told_without_the_password(site: Site, run: Run) -> None:
    checked = await run("check", AMQP__URL=site.url.replace("guest:guest", "guest:hunter2"))

    assert checked.returncode == 1
    assert "refused the login of 'guest'" in checked.stdout
    assert "hunter2" not in checked.stdout + checked.stderr


async def test_a_management_api_that_is_not_there_costs_one_line(run: Run) -> None:
    checked = await run("check", AMQP__MANAGEMENT_URL=f"http://user:hunter2@{NOWHERE}/")

    (line,) = wrong(checked.stdout)
    assert line.startswith(f"✗ members of queues: the management API cannot be asked: {NOWHERE} ")
    assert f"✓ WORKER_AMQP__MANAGEMENT_URL: http://user:***@{NOWHERE}/ (environment)" in checked.stdout
    assert "hunter2" not in checked.stdout + checked.stderr


async def test_members_of_each_queue_are_told_beside_the_rest(site: Site, run: Run) -> None:
    jobs = {"name": site.names.jobs, "type": "quorum", "arguments": {}, "leader": "a", "policy": "x"}
    async with serving(cluster(jobs | {"members": ["a", "b", "c"], "online": ["a", "b"]})) as place:
        checked = await run("check", "--only", "members", AMQP__MANAGEMENT_URL=f"http://u:p@{place}/")

    first, *_ = (line for line in checked.stdout.splitlines() if f"members of {site.names.jobs}:" in line)
    assert (
        first == f"✓ members of {site.names.jobs}: quorum, leader a, members a, b, c, not online: c, policy x"
    )
    assert f"✗ settings of {site.names.jobs}: x-queue-type is unset instead of" in checked.stdout
    assert f"✓ members of {site.names.dead}: not shown" in checked.stdout


async def test_a_queue_with_other_arguments_is_named(site: Site, run: Run) -> None:
    checked = await run("check", AMQP__DELIVERY_LIMIT="77")

    (line,) = wrong(checked.stdout)
    assert line.startswith(f"✗ queue {site.names.jobs}: exists with other arguments: ")
    assert "x-delivery-limit" in line


async def test_a_missing_queue_is_wrong_if_nobody_declares_it(site: Site, run: Run) -> None:
    async with outside_channel(site.own_url) as channel:
        await channel.queue_delete(site.names.dead)

    declared = await run("check")
    not_declared = await run("check", AMQP__DECLARE="false")

    assert declared.returncode == 0
    (line,) = wrong(not_declared.stdout)
    assert line.startswith(f"✗ queue {site.names.dead}: does not exist → make it")


async def test_what_a_mount_endangers_is_a_warning(run: Run) -> None:
    """It ends well: an init container lets the worker start, as for a trial."""
    with TemporaryDirectory(dir="/dev/shm") as root:
        checked = await run("check", "--only", "storage", STORAGE__ROOT=root)

    assert (checked.returncode, wrong(checked.stdout)) == (0, [])
    (warning,) = (line for line in checked.stdout.splitlines() if line.startswith("!"))
    assert warning.startswith("! storage mount: tmpfs at /dev/shm: files are in memory")
    assert warning.endswith("→ mount a volume, but for a trial")


async def test_bad_keys_are_named_and_not_shown(site: Site, run: Run) -> None:
    site.add_key("app2", "")
    (site.keys / "no account").write_text("hunter2")
    (site.keys / "..data").mkdir()
    (site.keys / "app3").write_bytes(b"\xffhunter2")

    checked = await run("check")

    assert [line.partition(": ")[0] for line in wrong(checked.stdout)] == [
        "✗ key app2",
        "✗ key app3",
        "✗ key no account",
    ]
    assert "✓ keys: of 1 accounts" in checked.stdout
    assert "hunter2" not in checked.stdout


async def test_an_untrusted_certificate_is_named_with_its_remedy(
    run: Run,
) -> None:
    checked = await run("check", CCFS__CA_FILE="")

    (line,) = wrong(checked.stdout)
    assert line.startswith("✗ CC-FS: ")
    assert "set WORKER_CCFS__CA_FILE" in line


async def test_a_ccfs_that_cannot_be_reached_is_told(run: Run) -> None:
    checked = await run("check", CCFS__BASE_URL=f"https://{NOWHERE}")

    (line,) = wrong(checked.stdout)
    assert f"check WORKER_CCFS__BASE_URL (https://{NOWHERE})" in line


async def test_a_certificate_file_that_cannot_be_used_is_told_once(site: Site, run: Run) -> None:
    checked = await run("check", CCFS__CA_FILE=str(site.folder / "none.pem"))

    (line,) = wrong(checked.stdout)
    assert line.startswith("✗ CC-FS: WORKER_CCFS__CA_FILE: ")


@pytest.mark.parametrize(
    ("ahead", "verdict"), [(timedelta(minutes=10), "✗"), (-timedelta(minutes=10), "✗"), (timedelta(0), "✓")]
)
async def test_a_clock_that_is_off_is_told(run: Run, ahead: timedelta, verdict: str) -> None:
    """CC-FS answers 401 to stale signatures, which looks like a wrong key."""
    async with dated(datetime.now(UTC) + ahead) as url:
        checked = await run("check", CCFS__BASE_URL=url)

    (line,) = (line for line in checked.stdout.splitlines() if " clock: " in line and "storage" not in line)
    assert line.startswith(verdict)
    if ahead:
        assert ("ahead of" if ahead > timedelta(0) else "behind") in line


@asynccontextmanager
async def dated(moment: datetime) -> AsyncIterator[str]:
    """Serve answers that bear this date."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        date = format_datetime(moment, usegmt=True)
        writer.write(f"HTTP/1.1 405 No\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.fixture
def not_a_directory(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


async def test_a_root_that_is_none_is_told(run: Run, not_a_directory: Path) -> None:
    checked = await run("check", STORAGE__ROOT=str(not_a_directory))

    (line,) = wrong(checked.stdout)
    assert line == f"✗ storage: WORKER_STORAGE__ROOT: {not_a_directory} is not a directory"


async def test_too_little_space_is_told(run: Run) -> None:
    checked = await run("check", STORAGE__MIN_FREE_BYTES=str(10**18))

    (line,) = wrong(checked.stdout)
    assert line.startswith("✗ storage free space: ")
    assert "make room" in line


async def test_a_broker_that_keeps_silent_does_not_hold_the_rest_up(run: Run) -> None:
    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        checked = await run("check", AMQP__URL=f"amqp://127.0.0.1:{port}/", AMQP__CONNECT_TIMEOUT="0.5")

    (line,) = wrong(checked.stdout)
    assert "did not answer within 0.5 s" in line
    assert "✓ CC-FS" in checked.stdout


async def test_a_part_can_be_checked_alone(run: Run) -> None:
    checked = await run(
        "check", "--only", "storage", "--only", "keys", AMQP__URL=f"amqp://guest:guest@{NOWHERE}/"
    )

    subjects = {line.split()[1].rstrip(":") for line in checked.stdout.splitlines()}
    assert (checked.returncode, subjects) == (0, {"storage", "keys"})


async def test_a_full_volume_keeps_no_worker_from_starting(run: Run) -> None:
    """The chart's init container runs this: new pods on a full volume have to come up and wait."""
    checked = await run("check", "--only", "storage", STORAGE__MIN_FREE_BYTES=str(10**18))

    assert (checked.returncode, wrong(checked.stdout)) == (0, [])


MISSING = "0300011"


@pytest.mark.parametrize(
    ("answer", "ok", "said"),
    [
        (ResultCode(code=MISSING), True, "signature, key, Host and clock are right: CC-FS has no such file"),
        (ResultCode(code="0300008"), True, "CC-FS asks to slow down"),
        (ResultCode(code="0300006"), False, "0300006"),
        (StatusCode(status=401), False, "CC-FS refuses the signature (HTTP 401): the key is from "),
        (Waf(status=403), False, "have this machine's address let in there"),
        (StatusCode(status=407), False, "an answer that is not CC-FS's own"),
        (NotZip(), False, "an answer that is not CC-FS's own"),
    ],
    ids=lambda value: str(getattr(value, "status", getattr(value, "code", ""))) or None,
)
async def test_a_signed_request_tells_what_is_right(
    site: Site, run: Run, answer: Fault, said: str, *, ok: bool
) -> None:
    site.simulator.plan = lambda _: answer

    checked = await run("check", "--only", "CC-FS", "--app", APP)

    (line,) = [line for line in checked.stdout.splitlines() if f"account {APP}: " in line]
    assert (line.startswith("✓"), said in line) == (ok, True)
    assert checked.returncode == (0 if ok else 1)
    assert "secret" not in checked.stdout


async def test_a_wrong_key_is_found_and_named(site: Site, run: Run) -> None:
    """By the signature that CC-FS computes, with what it depends on here."""
    other = site.folder / "other-keys"
    other.mkdir()
    (other / APP).write_text("wrong\n")

    checked = await run(
        "check", "--only", "CC-FS", "--app", APP, "--app", "nobody", CREDENTIALS__DIR=str(other)
    )

    refused, unknown = wrong(checked.stdout)
    host = site.simulator.url.removeprefix("https://")
    facts = (
        rf"the key is from {other / APP}, written \d+[sm] ago; Host was {host}; CC-FS's clock is [+-]\d+ s"
    )
    assert re.search(facts, refused)
    assert unknown.startswith("✗ account nobody: there is no key file for this account")
