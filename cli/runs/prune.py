"""``saman prune``: remove old runs, copies of code and caches, and show the disk use."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import MODELS, RUNS, Json, ModelsDir, RunsDir
from saman.cli.output import print_json, shown_path
from saman.configs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from saman.jobs.prune.plan import PrunePlan
    from saman.jobs.prune.usage import Usage

_MOST_SHOWN = 30
_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def prune_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Experiments, studies or runs. Default: all.")
    ] = None,
    older_than: Annotated[str, typer.Option("--older-than", help="Age, such as 12h, 30d or 8w.")] = "30d",
    keep: Annotated[int, typer.Option("--keep", min=0, help="Newest runs of each experiment that stay.")] = 1,
    studies: Annotated[bool, typer.Option("--studies", help="Also remove results of studies.")] = False,
    caches: Annotated[bool, typer.Option("--caches", help="Also remove old wheels, converters and profiles.")] = False,
    usage: Annotated[bool, typer.Option("--usage", help="Show the disk use in bytes and inodes instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed; remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Remove old runs with their copies of code and job arrays, after a question on the terminal.

    Runs stay that are queued, running, the newest of their experiment, results of a study, published as a version,
    or another user's. Links are not followed.

    Examples:

        saman prune --usage

        saman prune --dry-run

        saman prune my-experiment --older-than 7d --keep 3
    """
    from saman.jobs.prune.choice import plan_prune
    from saman.jobs.prune.plan import PruneRequest

    if not runs_dir.is_dir() and (runs_dir != RUNS or runs_dir.exists()):
        raise UserError("this is no folder", where=f"--runs-dir {runs_dir}", remedy="name the folder of runs")
    if usage:
        if names:
            raise UserError("the disk use is that of all runs", where="--usage", remedy="leave the names out")
        _show_usage(runs_dir, models_dir, as_json)
        return
    request = PruneRequest(tuple(names or ()), _seconds(older_than), keep, studies, caches)
    plan = plan_prune(runs_dir, models_dir, request)
    if not as_json:
        _show_plan(plan)
    if dry_run or not plan.removable:
        if as_json:
            print_json(_facts(plan))
        return
    if not yes and not _agreed(plan):
        raise typer.Exit(ExitCode.BAD_REQUEST)
    _remove(plan, runs_dir, as_json)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if match is None:
        raise UserError(f"{text!r} is not an age", where="--older-than", remedy="a number and h, d or w, such as 30d")
    return int(match[1]) * _UNITS[match[2]]


def _agreed(plan: PrunePlan) -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("no terminal to confirm the removal", where="saman prune", remedy="--yes, or --dry-run")
    count = len(plan.removable)
    return typer.confirm(f"Remove {'this entry' if count == 1 else f'these {count} entries'} for good?")


def _facts(plan: PrunePlan) -> dict[str, object]:
    return {
        "remove": [
            {"kind": each.kind.value, "path": str(each.path), **asdict(each.usage)} for each in plan.removable
        ],
        "keep": [{"path": str(each.path), "reason": each.reason.name.lower(), "text": each.text} for each in plan.kept],
        **asdict(plan.usage),
    }  # fmt: skip


def _show_plan(plan: PrunePlan) -> None:
    for each in plan.removable[:_MOST_SHOWN]:
        typer.echo(f"{each.kind.value}: {shown_path(each.path)}  {_amount(each.usage)}")
    if len(plan.removable) > _MOST_SHOWN:
        typer.echo(f"… and {len(plan.removable) - _MOST_SHOWN} more")
    reasons: dict[str, int] = {}
    for kept in plan.kept:
        reasons[kept.reason.value] = reasons.get(kept.reason.value, 0) + 1
    if reasons:
        parts = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        typer.echo(f"{len(plan.kept)} runs stay: {parts}")
    typer.echo(f"to remove: {_entries(len(plan.removable))}, {_amount(plan.usage)}")


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"


def _amount(usage: Usage) -> str:
    from saman.configs.units import format_bytes

    return f"{format_bytes(usage.bytes)}, {usage.inodes} inodes"


def _remove(plan: PrunePlan, runs_dir: Path, as_json: bool) -> None:
    from saman.jobs.prune.removal import remove_chosen
    from saman.jobs.prune.usage import total

    results = list(remove_chosen(plan, runs_dir))
    problems = [each for each in results if each.problem is not None]
    freed = total(each.freed for each in results)
    if as_json:
        stayed = [{"path": str(each.chosen.path), "problem": each.problem} for each in problems]
        print_json({"removed": len(results) - len(problems), "stayed": stayed, **asdict(freed)})
    else:
        for each in problems:
            typer.echo(f"{shown_path(each.chosen.path)} stays: {each.problem}", err=True)
        typer.echo(f"removed: {_entries(len(results) - len(problems))}, {_amount(freed)}")
    if problems:
        raise typer.Exit(ExitCode.RUN_FAILED)


def _show_usage(runs_dir: Path, models_dir: Path, as_json: bool) -> None:
    from saman.configs.units import format_bytes
    from saman.jobs.prune.usage import read_usage

    report = read_usage(runs_dir, models_dir)
    if as_json:
        print_json({**asdict(report), "total": asdict(report.total)})
        return
    width = max((len(row.what) for row in report.rows), default=5)
    typer.echo(f"{'':{width}}  {'runs':>6}  {'size':>10}  {'inodes':>9}")
    for row in report.rows:
        runs = "" if row.runs is None else str(row.runs)
        typer.echo(f"{row.what:{width}}  {runs:>6}  {format_bytes(row.usage.bytes):>10}  {row.usage.inodes:>9}")
    typer.echo(f"{'total':{width}}  {'':>6}  {format_bytes(report.total.bytes):>10}  {report.total.inodes:>9}")
    disk = report.file_system
    if disk is not None:
        free = f"{format_bytes(disk.free_bytes)} of {format_bytes(disk.bytes)}"
        inodes = f", {disk.free_inodes} of {disk.inodes} inodes" if disk.inodes is not None else ""
        typer.echo(f"free on the file system of {shown_path(runs_dir.absolute())}: {free}{inodes}")
    quota = report.quota
    if quota is not None:
        size = f" of {format_bytes(quota.byte_limit)}" if quota.byte_limit else ", no limit"
        count = f" of {quota.inode_limit}" if quota.inode_limit else ", no limit"
        typer.echo(f"your quota there: {format_bytes(quota.bytes)}{size}; {quota.inodes} inodes{count}")
