"""How outcomes are shown, to whoever waits for them."""

from collections.abc import AsyncGenerator, AsyncIterator

from schemas import DownloadCompleted, Outcome, read_outcome
from worker.cli import output
from worker.cli.output import Output
from worker.errors import one_line


async def read_outcomes(bodies: AsyncIterator[bytes]) -> AsyncGenerator[Outcome, None]:
    """Read events; what is none of the contract's is told and left out."""
    async for body in bodies:
        try:
            outcome = read_outcome(body)
        except ValueError:
            output.note(f"no outcome of this contract: {one_line(body.decode(errors='replace'), 200)}")
        else:
            yield outcome


def show(outcome: Outcome, output_format: Output) -> None:
    """Write one outcome: the event's own JSON, or a line for a person."""
    if output_format is Output.JSON:
        output.json_line(outcome.model_dump(mode="json", by_alias=True))
    elif isinstance(outcome, DownloadCompleted):
        how = "reused" if outcome.reused else f"{outcome.size_bytes:,} bytes"
        output.verdict(ok=True, text=f"{outcome.path} ({how}, attempt {outcome.attempts})  {_job(outcome)}")
    else:
        file = f"{outcome.app_id or '?'} {outcome.bill_file_name or '?'}"
        why = f"{outcome.error_code}: {one_line(outcome.error_message)}"
        output.verdict(ok=False, text=f"{file}: {why} (attempt {outcome.attempts})  {_job(outcome)}")


def _job(outcome: Outcome) -> str:
    return f"job {one_line(outcome.job_id)}"
