"""Fuzzes one target: `python -m tests.fuzz.one NAME [OPTIONS OF LIBFUZZER]`."""

import sys

import atheris

with atheris.instrument_imports(include=["worker", "schemas", "zipfile", "email"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Run until libFuzzer ends the process: with 0 when its time is over, otherwise at the first failure."""
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], TARGETS[name][0])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
