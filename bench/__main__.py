"""The benchmark's command line: `python -m bench run|check|profile|report`."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench import check, machine, profile, report
from bench.lab import Lab, open_lab
from bench.plan import FULL, QUICK, Experiment, Sizes, experiments, headline_ratios
from bench.queues import Queues, open_queues
from bench.results import Results, Table, shown

_CHECKED = Sizes(small=600, medium=60, large=2, lone=0, shallow=0, deep=0, rounds=5, whole=False)


def main() -> None:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    if arguments.command == "report":
        report.write(Results.read(report.RESULTS_FILE))
    elif arguments.command == "profile":
        report.FOLDER.mkdir(parents=True, exist_ok=True)
        asyncio.run(profile.record(report.FOLDER))
    elif arguments.command == "check":
        _check(recording=arguments.record)
    else:
        _run(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure and write the report")
    run.add_argument("--full", action="store_true", help="the whole sizes instead of small ones")
    run.add_argument("--rounds", type=int, help="samples of each entrant (default 5)")
    run.add_argument(
        "--only", nargs="+", default=(), metavar="KEY", help="measure these alone, keep the others"
    )
    checking = commands.add_parser("check", help="compare a few ratios with the recorded ones")
    checking.add_argument("--record", action="store_true", help="record them instead")
    commands.add_parser("profile", help="draw flame graphs of the worker")
    commands.add_parser("report", help="write the report anew from the figures of the last run")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    sizes = FULL if arguments.full else QUICK
    if arguments.rounds:
        sizes = replace(sizes, rounds=arguments.rounds)
    chosen = [each for each in experiments(sizes) if not arguments.only or each.key in arguments.only]
    earlier = Results.read(report.RESULTS_FILE).tables if report.RESULTS_FILE.exists() else {}
    added = {key: table for key, table in earlier.items() if key in report.ADDED}

    def keep(results: Results) -> None:
        tables = earlier | results.tables if arguments.only else results.tables | added
        replace(results, tables=tables).write(report.RESULTS_FILE)

    with suppress(KeyboardInterrupt):
        asyncio.run(_measure(chosen, sizes.rounds, keep))
    # Whatever was measured before Ctrl-C.
    report.write(Results.read(report.RESULTS_FILE))
    print(f"The report is {report.FOLDER / 'report.md'}.")


def _check(*, recording: bool) -> None:
    measured = check.ratios(asyncio.run(_measure(headline_ratios(_CHECKED), _CHECKED.rounds, lambda _: None)))
    if recording:
        check.record(measured)
    elif not check.compare(measured):
        raise SystemExit(f"A ratio fell by more than {check.TOLERANCE:.0%}.")


async def _measure(chosen: Sequence[Experiment], rounds: int, on_table: Callable[[Results], None]) -> Results:
    with open_lab() as lab:
        async with open_queues(lab.amqp_url) as queues:
            command = f"python -m bench {' '.join(sys.argv[1:])}"
            results = Results(machine=machine.describe(lab.rabbitmq_version))
            for experiment in chosen:
                table = results.tables[experiment.key] = Table(experiment.title, experiment.headline, command)
                await _take_turns(lab, queues, experiment, table, rounds)
                on_table(results)
            return results


async def _take_turns(lab: Lab, queues: Queues, experiment: Experiment, table: Table, rounds: int) -> None:
    for number in range(rounds):
        for entrant in experiment.entrants:
            figures = await entrant.take(lab, queues)
            table.add(entrant.name, figures)
            print(f"{experiment.key} {number + 1}/{rounds} {entrant.name}: {shown(figures)}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
