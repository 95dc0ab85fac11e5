"""The exit codes that all commands share."""

SETTINGS = 2
"""Settings or arguments are wrong, or point at what cannot be used; 2 is also what typer gives for usage."""
