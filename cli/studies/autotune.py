"""``saman autotune``: threads, binding and Horovod's settings for a machine, by a measured search of ten short runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, Json, Ranks, RunsDir, Words

if TYPE_CHECKING:
    from rich.console import Console

    from saman.tuning.machine.search import MachineSearch, SearchResult


def autotune_command(
    words: Words = None,
    ranks: Ranks = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1.0, help="Seconds of training that each run measures.")
    ] = 15.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The file. Default: NAME-autotune.yaml.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the settings that would be tried; start nothing.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Find threads, binding, cycle time, bucket and fusion threshold for this machine, in ten short runs.

    Writes a file with the settings that gain, for `include:` in the experiment. Run it on an otherwise idle machine, or
    inside an allocation.

    Examples:

        saman autotune quickstart -np 2

        saman autotune my.yaml -np 8 --seconds 30 -o node-type-a.yaml
    """
    from rich.console import Console

    from saman.api.tunings import prepare_autotune, run_autotune
    from saman.configs.errors import UserError

    if not words:
        raise UserError("missing experiment", remedy="saman autotune EXPERIMENT [key=value ...]")
    wanted = prepare_autotune(words[0], words[1:], ranks)
    console = Console(stderr=as_json)
    if dry_run:
        _show_factors(console, wanted, as_json)
        return
    file = output or Path(f"{wanted.run_name}.yaml")
    result = run_autotune(wanted, file, runs_dir, seconds, lambda text: typer.echo(text, err=as_json))
    if as_json:
        typer.echo(json.dumps({**result.to_json(), "file": str(file)}, indent=2))
    else:
        _show(console, result, file)


def _show_factors(console: Console, wanted: MachineSearch, as_json: bool) -> None:
    from saman.tuning.machine.search import MOST_RUNS

    if as_json:
        factors = {factor.name: [dict(level.changes) for level in factor.levels] for factor in wanted.factors}
        typer.echo(json.dumps({"runs": MOST_RUNS, "factors": factors}, indent=2))
        return
    for factor in wanted.factors:
        levels = "; ".join(level.name for level in factor.levels)
        console.print(f"{factor.name}: {levels}", markup=False, highlight=False)
    console.print(f"{MOST_RUNS} short runs of {wanted.loaded.experiment.name}", highlight=False)


def _show(console: Console, result: SearchResult, file: Path) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("setting", "level", "gain", "95 % interval", "chosen"):
        table.add_column(heading, justify="right" if heading in ("gain", "95 % interval") else "left")
    for at, factor in enumerate(result.search.factors):
        for number, level in enumerate(factor.levels):
            if number == 0:
                continue
            gain = result.effects.gain_of(at, number)
            ends = "unknown" if gain.low is None or gain.high is None else f"{gain.low:+.1%} to {gain.high:+.1%}"
            mark = "yes" if result.chosen[at] == number else ""
            table.add_row(factor.name, level.name, f"{gain.value:+.1%}", ends, mark)
    console.print(table)
    if any(result.chosen):
        console.print(f"gain in all: {result.gain}", highlight=False)
    else:
        console.print("no setting gains anything: the experiment stays as it is")
    console.print(f"{file}: include it in the experiment (include: [{file.name}])", highlight=False, markup=False)
