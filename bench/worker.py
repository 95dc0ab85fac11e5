"""Start the worker for a sample, on request without hashing: a switch that only the benchmark has."""

import os

from worker.cli import main

if __name__ == "__main__":
    if os.environ.get("BENCH_HASHING") == "0":
        from bench import unhashed

        unhashed.switch_off()
    main(["run"])
