"""`ccfs-worker config`: what is set, and by whom."""

from typing import Annotated

import typer

from worker.cli import inventory, terminal
from worker.cli.exit_codes import SETTINGS
from worker.cli.terminal import Output, OutputOption


def config(
    *,
    output_format: OutputOption = Output.TEXT,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference of all settings instead, as a Markdown page.")
    ] = False,
) -> None:
    """Show the settings in effect and where each comes from.

    Passwords are masked. Ends with 2 when a worker could not start with them.

    Examples:
        ccfs-worker config
        ccfs-worker config -o json | jq 'select(.source == "environment")'
        ccfs-worker config --markdown > settings.md
    """
    if markdown:
        typer.echo(inventory.markdown(), nl=False)
        return
    entries = inventory.effective()
    if output_format is Output.JSON:
        for entry in entries:
            terminal.json_line(
                {
                    "variable": entry.setting.variable,
                    "value": entry.value,
                    "source": entry.source,
                    "default": entry.setting.default,
                    "problem": entry.problem or None,
                    "description": entry.setting.description,
                }
            )
    else:
        rows = (
            (entry.setting.variable, "-" if entry.value is None else entry.value, entry.source)
            for entry in entries
        )
        terminal.table(("VARIABLE", "VALUE", "SOURCE"), rows)
    if wrong := [f"{entry.setting.variable}: {entry.problem}" for entry in entries if entry.problem]:
        for line in wrong:
            terminal.note(line)
        raise typer.Exit(SETTINGS)
