"""``saman submit``: an experiment, or somebody's own program, as a Slurm job."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.runs.folder import RunFolder


def submit(
    context: typer.Context,
    cluster: Annotated[str, typer.Option("--cluster", "-c", help="A cluster file: a shipped name, yours, or a path.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[EXPERIMENT] [KEY=VALUE]...", help="What to train, and changes to it."),
    ] = None,
    ranks: Annotated[int | None, typer.Option("-np", "--np", help="Ranks in all, spread over the nodes.")] = None,
    nodes: Annotated[int | None, typer.Option("--nodes", "-N", help="The same as resources.nodes=N.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest that fits.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script; touch nothing.")] = False,
    test_only: Annotated[bool, typer.Option("--test-only", help="Ask Slurm when the job would start.")] = False,
    code: Annotated[list[Path] | None, typer.Option("--code", help="Copy only this (repeatable).")] = None,
    no_snapshot: Annotated[bool, typer.Option("--no-snapshot", help="Use your code in place, not a copy.")] = False,
    ignore_limits: Annotated[bool, typer.Option("--ignore-limits", help="Submit even if a quota forbids it.")] = False,
    legacy_keras: Annotated[bool, typer.Option("--legacy-keras", help="For a program that needs Keras 2.")] = False,
    set_cluster: Annotated[
        list[str] | None, typer.Option("--set", help="Change a key of the cluster file: account=x (repeatable).")
    ] = None,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Nodes to avoid (repeatable).")] = None,
    models_dir: Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")] = Path("models"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what the chief prints until the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Submit an experiment to Slurm, or your own program: saman submit --cluster C -np 8 -- python train.py"""
    from saman.configs.loading.clusters import load_cluster
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm
    from saman.slurm.submission.code_copy import code_copy

    site = load_cluster(cluster, tuple(set_cluster or ()))
    spec, code_path = _spec(arguments or [], context.obj, ranks, nodes, legacy_keras)
    plan = planning.plan(spec, site, runs_dir, partition)
    if dry_run:
        _say(plan.notes)
        typer.echo(plan.text, nl=False)
        return
    warnings = [] if ignore_limits else planning.check_limits(plan)
    if test_only:
        started = planning.test_only(plan)
        _print({"would": started, "notes": [*plan.notes, *warnings]}, [*plan.notes, *warnings, started], as_json)
        return
    copy = None if no_snapshot else code_copy(spec, code_path, runs_dir, tuple(code or ()))
    done = slurm.submit(plan, code_path, copy, models_dir, tuple(exclude or ()))
    facts = {
        "run": str(done.run.path), "id": done.run.id, "job": done.job, "follow_ups": list(done.follow_ups),
        "partition": plan.choice.partition.name, "notes": [*plan.notes, *warnings],
    }  # fmt: skip
    sentences = [*plan.notes, *warnings, f"job {done.job}: {done.run.path}", f"follow it: saman status {done.run.id}"]
    if done.follow_ups:
        waiting = "if this one is cut short, these go on, else they go away: job"
        sentences.insert(-1, f"{waiting} {', '.join(done.follow_ups)}")
    _print(facts, sentences, as_json)
    if follow:
        _follow(done.run, as_json)


def _follow(run: RunFolder, as_json: bool) -> None:
    """Until the run has ended: where it stands when that changes, and the chief's log. Ctrl-C leaves the job alone.

    Ends with the run's exit code.
    """
    from saman.configs.errors import ExitCode, UserError
    from saman.jobs.logs import pieces
    from saman.jobs.status import RunStatus, look

    told: list[str] = []

    def tell(status: RunStatus) -> None:
        said = status.state if status.state == "running" else f"{status.state}: {status.detail}".rstrip(": ")
        if [said] != told:
            told[:] = [said]
            typer.echo(f"# {said}", err=as_json)

    try:
        with contextlib.suppress(UserError):  # it ended before any rank printed anything; the last look says why
            for piece in pieces(run, follow=True, tell=tell):
                typer.echo(piece, nl=False, err=as_json)
    except KeyboardInterrupt:
        typer.echo(f"\nthe run goes on: saman logs -f {run.id}; saman cancel {run.id} ends it", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    (status,) = look([run])
    if status.state != "completed":
        raise typer.Exit(status.exit_code or ExitCode.RUN_FAILED)


def _spec(
    arguments: list[str], program: list[str] | None, ranks: int | None, nodes: int | None, legacy_keras: bool
) -> tuple[Experiment | Script, tuple[Path, ...]]:
    """What to run, and where its code is."""
    from saman.configs.errors import UserError
    from saman.configs.loading.experiments import load_experiment

    if nodes is not None:
        arguments = [*arguments, f"resources.nodes={nodes}"]
    if program is not None:
        return _program(arguments, program, ranks, legacy_keras), (Path.cwd(),)
    if not arguments or "=" in arguments[0]:
        raise UserError(
            "no experiment is named",
            where="saman submit",
            remedy="saman submit EXPERIMENT --cluster C; or -- and a program",
        )
    loaded = load_experiment(arguments[0], arguments[1:], ranks)
    return loaded.experiment, loaded.code_path


def _program(arguments: list[str], program: list[str], ranks: int | None, legacy_keras: bool) -> Script:
    """Somebody's own program as a run."""
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.loading.files import overridden
    from saman.configs.problems import validated
    from saman.configs.schemas.script import Script
    from saman.launcher.programs import script_name

    values = {
        "name": script_name(program),
        "command": program,
        "directory": str(Path.cwd()),
        "legacy_keras": legacy_keras,
    }
    values = overridden(values, arguments)
    if ranks is not None:
        values = with_ranks(values, ranks)
    return validated(Script, values, "command line")


def _say(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        typer.echo(f"# {sentence}")


def _print(facts: Mapping[str, object], sentences: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for sentence in sentences:
        typer.echo(sentence)
