"""Prints what a start would do: ``saman run --dry-run``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from saman.launcher.planning import LaunchPlan


def print_plan(console: Console, plan: LaunchPlan, command: str, as_json: bool) -> None:
    """Print the resolved experiment, the placement, the notes and the command."""
    if as_json:
        facts = {
            "resolved": plan.spec.written(),
            "placement": plan.placement.to_json(),
            "command": command,
            "notes": list(plan.notes),
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    from rich.rule import Rule
    from rich.text import Text

    from saman.configs import yaml12

    width = min(console.width, 100)
    console.print(Rule("resolved", align="left", style="dim"), width=width)
    console.print(Text(yaml12.dump(plan.spec.written())), soft_wrap=True)
    console.print(Rule("placement", align="left", style="dim"), width=width)
    console.print(_placement_table(plan))
    for note in plan.notes:
        console.print(Text("  " + note, style="dim"), soft_wrap=True)
    console.print()
    console.print(Rule("command", align="left", style="dim"), width=width)
    console.print(Text(command), soft_wrap=True)


def _placement_table(plan: LaunchPlan) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("process", "ranks", "node", "cores", "GPUs"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for process in plan.placement.processes:
        ranks = process.ranks
        several = f"{ranks[0]}–{ranks[-1]}" if len(ranks) > 1 else str(ranks[0])
        cores = ",".join(map(str, process.cores)) or "all"
        table.add_row(str(process.index), several, process.node, cores, ",".join(map(str, process.gpus)) or "–")
    return table
