"""``saman submit``: an experiment, or a program, as a Slurm job."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import (
    MODELS,
    RUNS,
    AfterAny,
    AfterOk,
    ClusterName,
    Exclude,
    Json,
    LegacyKeras,
    ModelsDir,
    Partition,
    RunsDir,
    TotalRanks,
    Words,
)
from saman.configs.terminal_text import clean_text

if TYPE_CHECKING:
    from saman.cli.remote.submission import Submittal
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.runs.folder import RunFolder
    from saman.slurm.code.files import SentCode
    from saman.slurm.dependencies import Dependency
    from saman.slurm.submission.run_submission import SubmissionResult
    from saman.slurm.submission.submit import Submission


def submit_command(
    context: typer.Context,
    cluster: ClusterName = None,
    arguments: Words = None,
    ranks: TotalRanks = None,
    nodes: Annotated[int | None, typer.Option("--nodes", "-N", help="Number of nodes, as resources.nodes=N.")] = None,
    partition: Partition = None,
    time_limit: Annotated[
        str | None, typer.Option("--time", help="Time limit, as for sbatch: minutes, MM:SS, HH:MM:SS, D-HH:MM:SS.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="Total number of GPUs; without -np, one rank per GPU.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", "-A", help="Slurm account; the same as --set account=NAME.")
    ] = None,
    qos: Annotated[
        str | None, typer.Option("--qos", help="Slurm QOS, for every partition; the same as --set qos=NAME.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script; write and submit nothing.")] = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="Ask Slurm for the start time; submit nothing.")
    ] = False,
    code: Annotated[
        list[Path] | None, typer.Option("--code", help="Copy only this file or folder (repeatable).")
    ] = None,
    no_snapshot: Annotated[
        bool, typer.Option("--no-snapshot", help="Run your code where it is instead of a copy.")
    ] = False,
    ignore_limits: Annotated[bool, typer.Option("--ignore-limits", help="Submit even if a limit forbids it.")] = False,
    legacy_keras: LegacyKeras = False,
    set_cluster: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a key of the cluster file, for example account=x (repeatable)."),
    ] = None,
    runs_dir: RunsDir = RUNS,
    exclude: Exclude = None,
    after: AfterOk = None,
    after_any: AfterAny = None,
    models_dir: ModelsDir = MODELS,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the log of rank 0 until the end.")] = False,
    sent: Annotated[
        Path | None, typer.Option("--sent", hidden=True, help="The list of code from another machine.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Submit an experiment, your own program, or a workflow of several steps to Slurm.

    Examples:

        saman submit my.yaml --cluster mysite -np 8 --follow

        saman submit my.yaml --cluster mysite --nodes 4 --dry-run

        saman submit --cluster mysite -np 8 -- python train.py --lr 0.1

        saman submit evaluate.yaml --cluster mysite --after last

        saman submit workflow.yaml --cluster mysite --dry-run
    """
    from saman.cli.remote.submission import submit_there
    from saman.cli.runs.workflow import refuse_options, submit_workflow_file
    from saman.configs.loading.workflows import is_workflow
    from saman.slurm.site.access import needs_ssh, require_here
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.slurm.submission.known_options import slurm_options, with_charging
    from saman.slurm.submission.run_submission import SubmissionMode, SubmissionOptions, make_submission

    chosen = choose_cluster(cluster)
    site = with_charging(chosen.load(tuple(set_cluster or ())), account, qos)
    workflow = bool(arguments and context.obj is None and is_workflow(arguments[0]))
    changes, total = slurm_options(ranks, nodes, time_limit, gpus)
    words = [*(arguments or []), *changes]
    if needs_ssh(site) and not workflow:
        typed = _typed(arguments or [], words, context.obj, total, legacy_keras)
        submit_there(context, site, typed, code or (), runs_dir, follow, as_json)
        return
    options = SubmissionOptions(
        runs_dir=runs_dir, models_dir=models_dir, partition=partition, exclude=tuple(exclude or ()),
        code=tuple(code or ()), copy_code=not no_snapshot, ignore_limits=ignore_limits,
        dependency=_dependency(after or (), after_any or (), runs_dir), sent=_sent(sent),
    )  # fmt: skip
    if workflow and arguments:
        require_here(site, "a workflow")
        single = {"KEY=VALUE": arguments[1:], "-np": ranks, "--nodes": nodes, "--time": time_limit, "--gpus": gpus,
                  "--test-only": test_only, "--legacy-keras": legacy_keras, "--follow": follow}  # fmt: skip
        refuse_options(arguments[0], [name for name, value in single.items() if value])
        submit_workflow_file(Path(arguments[0]), site, options, dry_run, as_json, chosen.note)
        return
    spec, code_path = _spec(words, context.obj, total, legacy_keras)
    other = SubmissionMode.TEST_ONLY if test_only else SubmissionMode.SUBMIT
    result = make_submission(spec, site, code_path, options, SubmissionMode.DRY_RUN if dry_run else other)
    _show(_with_notes(result, chosen.note, *options.dependency.sentences()), as_json)
    if follow and result.submission is not None:
        _follow(result.submission.run, as_json)


def _dependency(after: Sequence[str], after_any: Sequence[str], runs_dir: Path) -> Dependency:
    """The jobs that the submission waits for; most wait for none, and need not load what reads runs."""
    from saman.slurm.dependencies import NONE

    if not after and not after_any:
        return NONE
    from saman.jobs.workflows.prerequisites import dependency_on

    return dependency_on(after, after_any, runs_dir)


def _sent(file: Path | None) -> SentCode | None:
    if file is None:
        return None
    from saman.jobs.remote.sent_files import read_sent

    return read_sent(file)


def _with_notes(result: SubmissionResult, *notes: str | None) -> SubmissionResult:
    from dataclasses import replace

    return replace(result, notes=(*filter(None, notes), *result.notes))


def _show(result: SubmissionResult, as_json: bool) -> None:
    notes = list(result.notes)
    if result.submission is not None:
        _show_submission(result, result.submission, as_json)
    elif result.start is not None:
        _print({"would": result.start, "notes": notes}, [*notes, result.start], as_json)
    else:
        for note in notes:
            typer.echo(f"# {note}")
        typer.echo(result.plan.text, nl=False)


def _show_submission(result: SubmissionResult, done: Submission, as_json: bool) -> None:
    facts = {
        "run": str(done.run.path), "id": done.run.id, "job": done.job, "follow_ups": list(done.follow_ups),
        "partition": result.plan.choice.partition.name, "notes": list(result.notes),
    }  # fmt: skip
    sentences = [*result.notes, f"job {done.job}: {done.run.path}"]
    if done.follow_ups:
        sentences.append(f"follow-up jobs, if this job is interrupted: {', '.join(done.follow_ups)}")
    _print(facts, [*sentences, f"follow it: saman status {done.run.id}"], as_json)


def _follow(run: RunFolder, as_json: bool) -> None:
    """Print state changes and the log of rank 0 until the run has ended; exit with its status.

    Ctrl-C leaves the job alone.
    """
    from saman.cli.log_lines import progress_lines, without_chatter
    from saman.configs.errors import ExitCode, UserError
    from saman.jobs.logs import read_logs
    from saman.jobs.reconcile import reconcile

    tell = progress_lines(err=as_json)
    try:
        with contextlib.suppress(UserError):  # it ended before any rank printed; the status below says why
            for piece in read_logs(run, follow=True, tell=tell):
                text = piece.text if run.is_script else without_chatter(piece.text)
                typer.echo(clean_text(text), nl=False, err=as_json)
    except KeyboardInterrupt:
        typer.echo(f"\nthe run continues: saman logs -f {run.id}; saman cancel {run.id} ends it", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    (status,) = reconcile([run])
    if not status.succeeded:
        raise typer.Exit(status.exit_code or ExitCode.RUN_FAILED)


def _spec(
    arguments: list[str], program: list[str] | None, ranks: int | None, legacy_keras: bool
) -> tuple[Experiment | Script, Sequence[Path]]:
    """The experiment or program to run, and the folders of its code."""
    from saman.configs.loading.experiments import load_experiment
    from saman.launcher.programs import script_from_command

    if program is not None:
        return script_from_command(program, arguments, ranks, legacy_keras), (Path.cwd(),)
    _require_experiment(arguments)
    loaded = load_experiment(arguments[0], arguments[1:], ranks)
    return loaded.experiment, loaded.code_path


def _typed(
    arguments: list[str], changed: list[str], program: list[str] | None, ranks: int | None, legacy_keras: bool
) -> Submittal:
    """What to submit on another machine: checked, as far as it can be checked here.

    Args:
        arguments: The arguments as typed.
        changed: The arguments, and the changes by other options.
        program: What follows ``--``.
        ranks: ``-np``.
        legacy_keras: ``--legacy-keras``.
    """
    from saman.cli.remote.submission import Submittal
    from saman.configs.loading.experiments import read_experiment
    from saman.configs.loading.files import shipped
    from saman.launcher.programs import script_from_command

    if program is not None:
        spec = script_from_command(program, changed, ranks, legacy_keras)
        return Submittal(spec, tuple(arguments), tuple(program))
    _require_experiment(changed)
    loaded = read_experiment(changed[0], changed[1:], ranks)
    own = changed[0] not in shipped("experiments")
    return Submittal(loaded.experiment, tuple(arguments), file=loaded.file if own else None)


def _require_experiment(arguments: list[str]) -> None:
    """Raise ``UserError`` if the arguments name no experiment."""
    from saman.configs.errors import UserError
    from saman.configs.loading.files import shipped
    from saman.launcher.programs import refuse_program

    if not arguments or "=" in arguments[0]:
        raise UserError(
            "missing experiment",
            where="saman submit",
            remedy="saman submit EXPERIMENT --cluster C, or saman submit --cluster C -- PROGRAM",
        )
    if arguments[0] not in shipped("experiments"):
        refuse_program(arguments, "saman submit")


def _print(facts: Mapping[str, object], sentences: Sequence[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for sentence in sentences:
        typer.echo(sentence)
