"""`python -m worker` runs the worker, as `ccfs-worker run` does."""

import sys

from worker.cli import main

main(["run", *sys.argv[1:]])
