"""The image holds what the worker needs and nothing else."""

import json
import subprocess
from typing import Any

import pytest

from devkit.run.image import IMAGE, Podman

pytestmark = pytest.mark.image

HARDENED = ("--rm", "--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all")


def run(podman: Podman, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a container without rights; the words come after `podman run`."""
    command = podman.run(*HARDENED, *words)
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


def sh(podman: Podman, script: str) -> str:
    """Runs a shell script in a container without rights."""
    return run(podman, "--entrypoint=sh", IMAGE, "-c", script).stdout


def configuration(podman: Podman) -> dict[str, Any]:
    (found,) = json.loads(podman("image", "inspect", IMAGE))
    assert isinstance(found, dict)
    return found


def test_it_is_small(podman: Podman) -> None:
    assert podman.compressed_megabytes(IMAGE) < 120


def test_it_runs_as_an_unprivileged_user_by_number(podman: Podman) -> None:
    assert configuration(podman)["Config"]["User"] == "10001:10001"
    assert sh(podman, "id -u; id -g").split() == ["10001", "10001"]


def test_it_says_what_it_is(podman: Podman) -> None:
    labels = configuration(podman)["Labels"]

    told = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert (told["title"], told["licenses"]) == ("ccfs-worker", "Apache-2.0")
    assert run(podman, IMAGE, "version").stdout.strip() == f"ccfs-worker {told['version']}"
    # All that OCI's image specification 1.1 names, but for the name within a layout.
    assert told.keys() >= {
        "created", "authors", "url", "documentation", "source", "version", "revision", "vendor",
        "licenses", "title", "description", "base.name", "base.digest",
    }  # fmt: skip


def test_without_settings_it_says_what_is_missing(podman: Podman) -> None:
    done = run(podman, IMAGE)

    assert done.returncode == 2
    assert "WORKER_CCFS__BASE_URL: is required and not set" in done.stderr


def test_any_user_may_run_it(podman: Podman) -> None:
    done = run(podman, "--user=1000650000:0", IMAGE, "version")

    assert (done.returncode, done.stdout.split()[0]) == (0, "ccfs-worker")


def test_no_compiler_package_cache_or_setuid_program_is_left(podman: Podman) -> None:
    caches = "/var/lib/apt/lists /var/cache/apt /var/log /root /tmp"

    assert sh(podman, "command -v cc gcc pip pip3 make git curl wget; echo none") == "none\n"
    assert sh(podman, f"find {caches} -type f; echo none") == "none\n"
    assert sh(podman, "find / -xdev -perm /6000 -type f; echo none") == "none\n"


def test_nothing_in_it_can_be_changed_by_its_user(podman: Podman) -> None:
    assert sh(podman, "find / -xdev -writable -type f; echo none") == "none\n"
