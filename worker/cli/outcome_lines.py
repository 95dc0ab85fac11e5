"""Outcomes as lines on the terminal, for the commands that wait for them."""

from collections.abc import AsyncGenerator, AsyncIterator

from schemas import DownloadCompleted, Outcome, read_outcome
from worker.cli import terminal
from worker.cli.terminal import Output
from worker.errors import one_line


async def read_outcomes(bodies: AsyncIterator[bytes]) -> AsyncGenerator[Outcome, None]:
    """Read events; note those that the contract does not know, and leave them out."""
    async for body in bodies:
        try:
            outcome = read_outcome(body)
        except ValueError:
            terminal.note(f"no outcome of this contract: {one_line(body.decode(errors='replace'), 200)}")
        else:
            yield outcome


def show(outcome: Outcome, output_format: Output) -> None:
    """Write one outcome: the event's own JSON, or a line for a person."""
    if output_format is Output.JSON:
        terminal.json_line(outcome.model_dump(mode="json", by_alias=True))
        return
    job = f"job {one_line(outcome.job_id)}"
    if isinstance(outcome, DownloadCompleted):
        how = "reused" if outcome.reused else f"{outcome.size_bytes:,} bytes"
        terminal.verdict(ok=True, text=f"{outcome.path} ({how}, attempt {outcome.attempts})  {job}")
    else:
        file = f"{outcome.app_id or '?'} {outcome.bill_file_name or '?'}"
        why = f"{outcome.error_code}: {one_line(outcome.error_message)}"
        terminal.verdict(ok=False, text=f"{file}: {why} (attempt {outcome.attempts})  {job}")
