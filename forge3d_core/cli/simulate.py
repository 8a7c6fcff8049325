"""``forge3d simulate``: run a program under many seeds, and say which of them break it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from forge3d_core.cli.describe import escape
from forge3d_core.cli.output import indented, results, write_json
from forge3d_core.errors import UsageError
from forge3d_core.simulation.plan import Fault, faults_of, trial
from forge3d_core.simulation.runner import DEFAULT_TIMEOUT, Outcome, Program, Runner

SHOWN = 5


def simulate(
    script: Annotated[Path, typer.Argument(help="A program that opens its device with open_device().")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from 1.")] = 200,
    only: Annotated[int | None, typer.Option(min=0, help="This seed alone, and all that it printed.")] = None,
    faults: Annotated[
        list[str] | None, typer.Option(help="Faults as well: 'refusals' of memory, 'losses' of the device.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one run may take.")] = DEFAULT_TIMEOUT,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once; default: the cores.")] = None,
    enough: Annotated[int, typer.Option(min=1, help="Stop after so many failures.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
) -> None:
    """Run a program on the seeded simulator: completions in adversarial order, delays, faults on request.

    Whatever backend the program asks for, it gets the simulator. A seed fails where the program ends with an
    error, or hangs; a program that checks its results finds most. Exits with 0 when all seeds hold, with 1
    when one fails, and with 2 when the program fails without any simulation.
    """
    chosen = faults_of(faults or ())
    program = Program(script, tuple(arguments or ()), timeout)
    trials = (
        [trial(only, chosen)] if only is not None else [trial(seed, chosen) for seed in range(1, seeds + 1)]
    )
    screen = Console(stderr=True)
    columns = TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=screen)
    with Runner(program, 1 if only is not None else jobs) as runner:
        reference = runner.reference()
        if not reference.held:
            raise UsageError(
                f"{script} fails on the plain host backend, without any simulation: {reference.why}"
            )
        outcomes: list[Outcome] = []
        with bar:
            task = bar.add_task("seeds", total=len(trials))

            def each(outcome: Outcome) -> None:
                outcomes.append(outcome)
                bar.advance(task)

            failures = runner.run_all(trials, each, enough=enough)
    with results() as console:
        if as_json:
            write_json(console, _data(program, chosen, len(outcomes), failures))
        else:
            _show(console, program, chosen, outcomes, failures, whole=only is not None)
    if failures:
        raise typer.Exit(1)


def _repeat(program: Program, faults: Sequence[Fault], seed: int) -> str:
    """Return the command that repeats a seed; what that does depends on all the faults there were."""
    words = ["forge3d", "simulate", str(program.path), "--only", str(seed)]
    for fault in faults:
        words += ["--faults", fault]
    if program.timeout != DEFAULT_TIMEOUT:
        words += ["--timeout", f"{program.timeout:g}"]
    if program.arguments:
        words += ["--", *program.arguments]
    return shlex.join(words)


def _data(
    program: Program, faults: Sequence[Fault], count: int, failures: list[Outcome]
) -> dict[str, object]:
    return {
        "script": str(program.path),
        "seeds": count,
        "failures": [
            {
                "seed": each.trial.seed,
                "selector": each.trial.selector,
                "why": each.why,
                "stderr": each.stderr,
                "repeat": _repeat(program, faults, each.trial.seed),
            }
            for each in failures
        ],
    }


def _show(
    console: Console,
    program: Program,
    faults: Sequence[Fault],
    outcomes: list[Outcome],
    failures: list[Outcome],
    *,
    whole: bool,
) -> None:
    if not failures:
        console.print(f"[green]all {len(outcomes)} seeds hold[/]")
    for each in failures:
        console.print(f"[red]seed {each.trial.seed}[/] {escape(each.why)}")
        indented(console, escape(_repeat(program, faults, each.trial.seed)))
    if failures and not whole:
        console.print(f"{len(failures)} of {len(outcomes)} seeds fail; the smallest is the one to look at")
    if whole:
        for text in (outcomes[0].stdout, outcomes[0].stderr):
            console.print(text, markup=False, end="", soft_wrap=True)
        console.print(f"as: FORGE3D_BACKEND={shlex.quote(outcomes[0].trial.selector)}", markup=False)
