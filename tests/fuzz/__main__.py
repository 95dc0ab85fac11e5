"""Fuzzes every target for a while and says what came of it: `python -m tests.fuzz --minutes 10`."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import MAX_SEED, TARGETS

CORPUS = Path(".run/fuzz")
"""What earlier runs found interesting is where the next one starts."""


def main() -> int:
    """Give the exit code: 1 if a target failed; its input then lies in the corpus's directory."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=10, help="in all")
    seconds = max(1, int(parser.parse_args().minutes * 60 / len(TARGETS)))
    # Not a generator: one target's failure keeps no other from its turn.
    passed = [_fuzz(name, seconds) for name in TARGETS]
    return 0 if all(passed) else 1


def _fuzz(name: str, seconds: int) -> bool:
    corpus = _seeded(name)
    command = [sys.executable, "-m", "tests.fuzz.one", name, str(corpus), f"-max_total_time={seconds}"]
    command += [
        f"-max_len={MAX_SEED}",
        "-rss_limit_mb=1024",
        "-timeout=10",
        f"-artifact_prefix={CORPUS}/{name}-",
    ]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    done = re.search(r"Done (\d+) runs", run.stdout)
    if run.returncode or done is None:
        print(run.stdout[-4000:])
        print(f"{name}: FAILED; the input is in {CORPUS}")
        return False
    reached = re.findall(r"cov: (\d+)", run.stdout)[-1:] or ["?"]
    print(
        f"{name}: {int(done[1]):,} inputs in {seconds} s, {reached[0]} places reached, no failure", flush=True
    )
    return True


def _seeded(name: str) -> Path:
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name][1]):
        (corpus / f"seed-{number}").write_bytes(seed)
    return corpus


if __name__ == "__main__":
    sys.exit(main())
