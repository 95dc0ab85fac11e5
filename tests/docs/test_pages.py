"""The documents' commands and programs work, and print what is said that they print."""

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import pytest

from bench.plan import FULL, experiments
from devkit import ROOT
from devkit.run import server
from devkit.run.rabbitmq import PrivateRabbitMQ
from devkit.run.worker_process import WorkerProcess
from schemas import ErrorCode
from tests.docs.pages import Step, steps
from tests.docs.shell import Shell
from worker.core.retry import RULES, Rule

PAGES = sorted(page.relative_to(ROOT) for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
CLAIMS = {str(page): list(steps(ROOT / page)) for page in PAGES}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
"""What `make` knows."""

EXPERIMENTS = {experiment.key for experiment in experiments(FULL)}
"""What `make bench` can measure alone."""


def is_make(step: Step) -> bool:
    return step.command.split()[0] == "make"


RUN = [page for page, claims in CLAIMS.items() if not all(map(is_make, claims))]


@pytest.fixture(scope="module")
def node() -> Iterator[PrivateRabbitMQ]:
    """A broker whose queues have their usual names."""
    if "AMQP" in os.environ and server.find() is None:
        pytest.skip("needs a RabbitMQ server on this machine")
    with PrivateRabbitMQ(management=True) as running:
        yield running


@dataclass(frozen=True)
class Stage:
    """What the pages take for given: broker, CC-FS and worker, all on this machine."""

    shell: Shell
    node: PrivateRabbitMQ

    def play(self, step: Step) -> tuple[int, str]:
        """Run a step with the addresses of this stage in place of the usual ones."""
        command = step.command.replace("amqp://guest:guest@127.0.0.1:5672/", self.node.url)
        assert self.node.management_url
        command = command.replace("http://guest:guest@127.0.0.1:15672/", self.node.management_url)
        return self.shell.run(command)


@pytest.fixture
async def stage(node: PrivateRabbitMQ, tmp_path: Path) -> AsyncIterator[Stage]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "WORKER_AMQP__URL": node.url}
    with Shell(cwd=tmp_path, env=env) as shell:
        shell.run("ccfs-worker simulate --port 0 --quiet --state sim > simulator.log 2>&1 &")
        shell.run("until [ -e sim/simulator.env ]; do sleep 0.1; done")
        shell.run("mkdir files; cp sim/simulator.env .env; echo WORKER_STORAGE__ROOT=files >> .env")
        settings = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
        settings |= {"WORKER_AMQP__URL": node.url, "WORKER_STORAGE__ROOT": str(tmp_path / "files")}
        with WorkerProcess(settings, log_file=tmp_path / "worker.log") as worker:
            await worker.readiness()
            await park(node.url, "mangled", b'{"appId": "app1"}')
            await worker.logged("job.settled", job_id="mangled")
            yield Stage(shell, node)


async def park(url: str, job_id: str, body: bytes) -> None:
    """Publish a job that no worker can read."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(body, message_id=job_id), "ccfs.jobs")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN)
async def test_what_the_page_claims_is_so(page: str, stage: Stage) -> None:
    for step in CLAIMS[page]:
        if is_make(step):
            continue
        code, printed = stage.play(step)
        assert code == 0, f"{page}:{step.line} {step.command}\n{printed}"
        assert step.matches(printed), f"{page}:{step.line} {step.command}\n{printed}\nis not\n{step.expected}"


@pytest.mark.parametrize("page", CLAIMS)
def test_the_targets_that_the_page_names_exist(page: str) -> None:
    named = {step.command.split()[1] for step in CLAIMS[page] if is_make(step)}

    assert named <= TARGETS


def test_the_page_of_messages_lists_every_error_code() -> None:
    _, _, failed = (ROOT / "docs" / "messages.md").read_text().partition("\n### Failed\n")
    table = [line for line in failed.partition("\n## ")[0].splitlines() if line.startswith("| `")]

    assert {code for line in table for code in re.findall(r"`([A-Z_]+)`", line.split("|")[1])} == set(
        ErrorCode
    )


def test_the_runbook_says_how_each_code_is_tried_again() -> None:
    words = {
        Rule.NEVER: "not",
        Rule.USUAL: "usual",
        Rule.SLOWER: "slower",
        Rule.FEW: "a few times",
        Rule.UNCOUNTED: "uncounted",
    }
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| ([a-z ]+) \|", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE
    )

    assert dict(rows) == {code: words[rule] for code, rule in RULES.items()}


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{page}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", (ROOT / page).read_text())
        if not (ROOT / page).parent.joinpath(target).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_the_page_names_exist(page: Path) -> None:
    rooms = "worker|schemas|devkit|bench|tests|helm|docs"
    named = re.findall(rf"`((?:{rooms})/[\w./-]*\w)(?:::\w+)?/?`", (ROOT / page).read_text())

    assert [file for file in named if not (ROOT / file).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_experiments_that_the_page_names_exist(page: Path) -> None:
    named = re.findall(r'ARGS="--only ([\w -]+)"', (ROOT / page).read_text())

    assert {key for keys in named for key in keys.split()} <= EXPERIMENTS


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_the_page_names_exist(page: Path) -> None:
    missing = [f"{file}::{name}" for file, name in named_tests(page) if not is_test(file, name)]

    assert missing == []


def named_tests(page: Path) -> Iterator[tuple[str, str]]:
    """Give file and name of each test that a page names; of a name that begins with `…` only its end."""
    file = ""
    for found in re.finditer(r"`(?:([\w/]+\.py)::)?(test_\w+|…_\w+)`", (ROOT / page).read_text()):
        file = found[1] or file
        yield file, found[2]


def is_test(file: str, name: str) -> bool:
    """Whether a file has that test; its path may leave `tests/` or `tests/faults/` out."""
    places = (ROOT / file, ROOT / "tests" / file, ROOT / "tests/faults" / file)
    source = "".join(place.read_text() for place in places if place.is_file())
    return re.search(rf"def {name.replace('…', 'test_[a-z0-9_]*')}\(", source) is not None


def test_a_step_tells_what_it_did_not_expect() -> None:
    """Anything where a … stands, and nothing else."""
    step = Step(1, "x", "first …\n…\nlast")

    assert step.matches("first thing\nlast\n")
    assert step.matches("first thing\nmore\nand more\nlast\n")
    assert not step.matches("first thing\nlast\nand more\n")
    assert not step.matches("second thing\nlast\n")
