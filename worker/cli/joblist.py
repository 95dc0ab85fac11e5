"""Reads lists of jobs that people and programs write, CSV and JSON lines: each row checked as a worker would.

Unknown columns and fields are ignored, so that a list of outcomes is a list of jobs, too. So is
the worker's log in JSON: of its lines, those of jobs that failed.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import typer

from schemas import DownloadJob
from worker.core.job import Envelope, read_job

COLUMNS = ("appId", "billFileName")
_LOGGED = {"event", "logger", "timestamp"}
"""What each line of the worker's log has."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list.

    Attributes:
        line: Where it is, from 1.
        job: What it asks for; None when it is wrong.
        defect: What is wrong with it, as one line; empty otherwise.
    """

    line: int
    job: DownloadJob | None
    defect: str


def lines_of(source: Path | None) -> Iterator[str]:
    """The lines of a file, or of standard input for None and `-`.

    Raises:
        typer.BadParameter: The file cannot be read.
    """
    if source is None or str(source) == "-":
        yield from sys.stdin
        return
    try:
        # A line that is not UTF-8 is a defect of its row, not of the file.
        with source.open(encoding="utf-8", errors="surrogateescape") as file:
            yield from file
    except OSError as exc:
        raise typer.BadParameter(f"{source}: {exc.strerror}") from exc


def read_list(lines: Iterable[str]) -> Iterator[Row]:
    """Read a list: JSON lines when its first line that is not blank begins with `{`, else CSV.

    CSV is separated by commas or semicolons; with a first line that names the columns they may be in any
    order, and without one they are the first two.
    """
    # Spreadsheets write a byte order mark first.
    numbered = ((number, line.strip("\ufeff \t\r\n")) for number, line in enumerate(lines, 1))
    filled = (pair for pair in numbered if pair[1])
    for number, line in filled:
        whole = chain([(number, line)], filled)
        yield from _read_json(whole) if line.startswith("{") else _read_csv(whole)


def read_pair(line: int, app_id: object, bill_file_name: object) -> Row:
    """Check one job that is given by its two fields."""
    return _row(line, json.dumps(dict(zip(COLUMNS, (app_id, bill_file_name), strict=True))))


def _read_json(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    """Read JSON lines; of the worker's log, the jobs that failed."""
    for number, line in lines:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            # Deep nesting exhausts Python's parser. `read_job` says what is wrong with the line.
            entry = None
        if not isinstance(entry, dict) or not entry.keys() >= _LOGGED:
            yield _row(number, line)
        elif entry["event"] == "job.failed":
            yield read_pair(number, entry.get("app_id"), entry.get("file"))


def _read_csv(lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    places, delimiter = (0, 1), ""
    for number, line in lines:
        # A line at a time: after an open quote the reader would take the rows that follow for one cell.
        first, delimiter = not delimiter, delimiter or (";" if ";" in line and "," not in line else ",")
        cells = [
            cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
        ]
        if first and set(COLUMNS) <= set(cells):
            places = (cells.index(COLUMNS[0]), cells.index(COLUMNS[1]))
        elif len(cells) <= max(places):
            yield Row(number, None, f"columns: {len(cells)}; wanted are {' and '.join(COLUMNS)}")
        else:
            yield read_pair(number, cells[places[0]], cells[places[1]])


def _row(line: int, text: str) -> Row:
    job = read_job(Envelope(body=text.encode(errors="surrogatepass")))
    return Row(line, job.request, job.defect)
