"""`fetch`: one file without a broker, by the worker's own ways."""

import hashlib
from pathlib import Path

import pytest

from tests.cli.conftest import Run, json_lines, on_terminal, read_until
from tests.installation import APP, Site, bill
from worker.simulator.faults import BadCrc, HeldAnswer, ResultCode

NO_BROKER = "amqp://127.0.0.1:9/"


async def test_a_file_is_fetched_to_the_storage(site: Site, run: Run) -> None:
    fetched = await run("fetch", APP, bill(1), AMQP__URL=NO_BROKER)

    file = site.root / APP / "20260131" / bill(1)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert fetched.stdout.splitlines() == [
        f"{file}  65,536 bytes  downloaded",
        f"sha256 {site.simulator.digest(APP, bill(1))}",
    ]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == site.simulator.digest(APP, bill(1))


async def test_a_file_that_is_there_is_not_fetched_again(site: Site, run: Run) -> None:
    await run("fetch", APP, bill(1))

    again = await run("fetch", APP, bill(1), "--output", "json")

    assert json_lines(again.stdout) == [
        {
            "path": f"{APP}/20260131/{bill(1)}",
            "sizeBytes": 65_536,
            "sha256": site.simulator.digest(APP, bill(1)),
            "reused": True,
        }
    ]
    assert len(site.simulator.requests) == 1


async def test_another_directory_needs_no_storage(site: Site, run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    fetched = await run("fetch", APP, bill(1), "--to", str(elsewhere), STORAGE__ROOT="")

    assert fetched.returncode == 0
    assert (elsewhere / APP / "20260131" / bill(1)).is_file()
    assert list(site.root.iterdir()) == []


async def test_a_failure_has_the_code_of_its_outcome(site: Site, run: Run) -> None:
    answers = {bill(1): ResultCode(code="0300011"), bill(2): BadCrc()}
    site.simulator.plan = lambda request: answers.get(request.bill_file_name)

    not_found = await run("fetch", APP, bill(1))
    corrupt = await run("fetch", APP, bill(2))
    stranger = await run("fetch", "stranger", bill(3))

    assert {run.returncode for run in (not_found, corrupt, stranger)} == {1}
    assert not_found.stderr.startswith("FILE_NOT_FOUND: CC-FS refused the download: resultCode 0300011")
    assert corrupt.stderr.startswith("CORRUPT_ARCHIVE: ")
    assert stranger.stderr == "UNKNOWN_APP: there is no key file for this account (stranger)\n"
    assert [path for path in site.root.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("arguments", [(APP, "nonsense"), ("../x", bill(1)), (APP,)])
async def test_a_bad_argument_is_told(run: Run, arguments: tuple[str, ...]) -> None:
    fetched = await run("fetch", *arguments)

    assert fetched.returncode == 2
    assert "Usage: ccfs-worker fetch" in fetched.stderr


async def test_a_directory_that_is_not_there_is_told(run: Run) -> None:
    fetched = await run("fetch", APP, bill(1), "--to", "no/such/directory")

    assert (fetched.returncode, fetched.stderr) == (
        2,
        "--to: no/such/directory does not exist: create it, or mount the volume there\n",
    )


@pytest.mark.parametrize("simulator_options", [3 * 1024**2], indirect=True)
async def test_a_terminal_sees_how_far_it_has_come(site: Site) -> None:
    """The bar shows name, bytes of how many, and speed."""
    half = HeldAnswer()
    site.simulator.plan = lambda _: half
    async with on_terminal(site, "fetch", APP, bill(1)) as (process, terminal):
        screen = await read_until(terminal, "/3.0 MiB")
        half.release.set()
        screen += await read_until(terminal)
        assert await process.wait() == 0

    assert bill(1) in screen
    assert "MB/s" in screen
