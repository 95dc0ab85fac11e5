"""The exit codes that all commands share; `docs/cli.md` lists them."""

FAILED = 1
"""The command did its work, and the answer is no: a check or a job failed, a message was not found."""

SETTINGS = 2
"""Settings or arguments are wrong, or point at what cannot be used; 2 is also what typer gives for usage."""

BROKER = 3
"""The broker could not be reached, refused us, or went away."""

TIMEOUT = 4
"""The time given was over before all outcomes had come."""

INTERRUPTED = 130
"""Ctrl-C, by the shell's custom: 128 and the number of SIGINT."""
