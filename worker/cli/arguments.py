"""Arguments that several commands share.

Typer reads a command's options from its signature alone, and cannot share a list of them. So each command
names its options, and what one means stands here once.
"""

from typing import Annotated

import typer

from schemas import DownloadJob
from worker.cli.joblist import read_pair

AppIdArgument = Annotated[str, typer.Argument(metavar="APP_ID", help="The account.", show_default=False)]
FileArgument = Annotated[
    str,
    typer.Argument(metavar="FILE", help="The file's name: yyyyMMdd_{responseId}.zip.", show_default=False),
]

JobIdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="JOB_ID", help="Only these.", show_default=False)
]
AppOption = Annotated[
    list[str] | None, typer.Option("--app", metavar="APP_ID", help="Only of this account. Repeatable.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Select all of them.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
EvenAloneOption = Annotated[
    bool,
    typer.Option(
        "--even-if-nobody-else",
        help="Follow outcomes although no consumer may have a queue for them. Without one they are gone once "
        "they are shown here.",
    ),
]


def one_job(app_id: str, file: str) -> DownloadJob:
    """Make a job of two arguments.

    Raises:
        typer.BadParameter: They break a rule of the contract.
    """
    row = read_pair(1, app_id, file)
    if row.job is None:
        raise typer.BadParameter(row.defect)
    return row.job
