"""Start the worker for a sample."""

from worker.cli import main

if __name__ == "__main__":
    main(["run"])
