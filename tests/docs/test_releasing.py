"""The commands that sign and verify a release are ones that cosign takes; none is here to run them."""

import re
import shlex
import subprocess

from devkit import ROOT

PAGE = (ROOT / "docs/releasing.md").read_text()
SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
IDENTITY = {"--certificate-identity", "--certificate-oidc-issuer"}
OPTIONS = {
    "sign": {"--yes"},
    "attest": {"--yes", "--type", "--predicate"},
    "sign-blob": {"--yes", "--bundle"},
    "verify": IDENTITY,
    "verify-attestation": {"--type", *IDENTITY},
    "verify-blob": {"--bundle", *IDENTITY},
}
"""Of each command the options that the page needs, by cosign's own reference (doc/cosign_*.md of v2)."""
VALUELESS = {"--yes"}


def commands() -> list[list[str]]:
    """The words of each cosign command, with lines that go on joined."""
    lines = "".join(SCRIPTS).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.split()[:1] == ["cosign"]]


def test_the_scripts_are_shell() -> None:
    for script in SCRIPTS:
        done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.stderr == "", script


def test_each_cosign_command_has_its_options_and_one_subject() -> None:
    seen = set()
    for _, command, *words in commands():
        options = {word for word in words if word.startswith("--")}
        values = sum(option not in VALUELESS for option in options)
        assert options == OPTIONS[command], words
        assert len(words) - len(options) - values == 1, words
        seen.add(command)

    assert seen == OPTIONS.keys()


def test_what_is_signed_is_named_by_digest() -> None:
    """A tag can be moved to another image between build and signature."""
    images = re.findall(r"^IMAGE=(\S+)$", PAGE, re.MULTILINE)

    assert images
    assert all(re.search(r"@(sha256:[0-9a-f]{64}|\$DIGEST)$", image) for image in images)


def test_the_targets_that_the_page_calls_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    lines = re.findall(r"^(?:\$ )?make ([a-z -]+)", PAGE, re.MULTILINE)
    called = {word for line in lines for word in line.split()}

    assert called >= {"wheel", "sbom", "image-push"}
    assert called <= targets
