"""``saman submit``: an experiment, or a program, as a Slurm job."""

from __future__ import annotations

import contextlib
import gc
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
    ClusterChanges,
    ClusterName,
    Exclude,
    Gpus,
    Json,
    LegacyKeras,
    ModelsDir,
    Nodes,
    Partition,
    RunsDir,
    TimeLimit,
    TotalRanks,
    Words,
)
from saman.configs.terminal_text import clean_text

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.runs.folder import RunFolder
    from saman.slurm.code.files import SentCode
    from saman.slurm.dependencies import Dependency
    from saman.slurm.submission.run_submission import SubmissionResult
    from saman.slurm.submission.submit import Submission


Account = Annotated[str | None, typer.Option("--account", "-A", help="Slurm account; the same as --set account=NAME.")]
Qos = Annotated[str | None, typer.Option("--qos", help="Slurm QOS, for every partition; the same as --set qos=NAME.")]
TestOnly = Annotated[bool, typer.Option("--test-only", help="Ask Slurm for the start time; submit nothing.")]
Code = Annotated[list[Path] | None, typer.Option("--code", help="Copy only this file or folder (repeatable).")]
NoSnapshot = Annotated[bool, typer.Option("--no-snapshot", help="Run your code where it is instead of a copy.")]
Sent = Annotated[Path | None, typer.Option("--sent", hidden=True, help="The list of code from another machine.")]
_OF_SINGLE_RUNS = ("ranks", "nodes", "time_limit", "gpus", "test_only", "legacy_keras", "follow")


def submit_command(
    context: typer.Context,
    cluster: ClusterName = None,
    arguments: Words = None,
    ranks: TotalRanks = None,
    nodes: Nodes = None,
    partition: Partition = None,
    time_limit: TimeLimit = None,
    gpus: Gpus = None,
    account: Account = None,
    qos: Qos = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script; write and submit nothing.")] = False,
    test_only: TestOnly = False,
    code: Code = None,
    no_snapshot: NoSnapshot = False,
    ignore_limits: Annotated[bool, typer.Option("--ignore-limits", help="Submit even if a limit forbids it.")] = False,
    legacy_keras: LegacyKeras = False,
    set_cluster: ClusterChanges = None,
    runs_dir: RunsDir = RUNS,
    exclude: Exclude = None,
    after: AfterOk = None,
    after_any: AfterAny = None,
    models_dir: ModelsDir = MODELS,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the log of rank 0 until the end.")] = False,
    sent: Sent = None,
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
    gc.set_threshold(100_000)  # what a submission makes, it keeps to its end
    from saman.cli.remote.submission import submit_there
    from saman.cli.runs.submitted import find_spec, typed_spec
    from saman.cli.runs.workflow import submit_workflow_file
    from saman.configs.schemas.experiment import Experiment
    from saman.registry.references import with_versions
    from saman.slurm.site.access import needs_ssh
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.slurm.submission.known_options import slurm_options, with_charging
    from saman.slurm.submission.run_submission import SubmissionMode, SubmissionOptions, make_submission

    chosen, words = choose_cluster(cluster), arguments or []
    site = with_charging(chosen.load(tuple(set_cluster or ())), account, qos)
    changes, total = slurm_options(ranks, nodes, time_limit, gpus)
    workflow = _workflow_file(context, words, site)
    if workflow is None and needs_ssh(site):
        typed = typed_spec(words, [*words, *changes], context.obj, total, legacy_keras)
        submit_there(context, site, typed, code or (), runs_dir, follow, as_json)
        return
    options = SubmissionOptions(
        runs_dir=runs_dir, models_dir=models_dir, partition=partition, exclude=tuple(exclude or ()),
        code=tuple(code or ()), copy_code=not no_snapshot, ignore_limits=ignore_limits,
        dependency=_dependency(after or (), after_any or (), runs_dir), sent=_sent(sent),
    )  # fmt: skip
    if workflow is not None:
        submit_workflow_file(workflow, site, options, dry_run, as_json, chosen.note)
        return
    spec, code_path = find_spec([*words, *changes], context.obj, total, legacy_keras)
    if isinstance(spec, Experiment):
        spec = with_versions(spec, models_dir.absolute())
    other = SubmissionMode.TEST_ONLY if test_only else SubmissionMode.SUBMIT
    result = make_submission(spec, site, code_path, options, SubmissionMode.DRY_RUN if dry_run else other)
    _show(_with_notes(result, chosen.note, *options.dependency.sentences()), as_json)
    if follow and result.submission is not None:
        _follow(result.submission.run, as_json)


def _workflow_file(context: typer.Context, words: Sequence[str], site: Cluster) -> Path | None:
    """The file of the workflow to submit; ``None`` for an experiment or a program.

    Raises:
        UserError: It stands beside options of single runs, or this is not the login node.
    """
    from saman.cli.runs.workflow import refuse_options
    from saman.configs.loading.workflows import is_workflow
    from saman.slurm.site.access import require_here

    if context.obj is not None or not words or not is_workflow(words[0]):
        return None
    require_here(site, "a workflow")
    single = {each.name: each.opts[0] for each in context.command.params if each.name in _OF_SINGLE_RUNS}
    given = [option for name, option in single.items() if name is not None and context.params[name]]
    refuse_options(words[0], [*(["KEY=VALUE"] if words[1:] else []), *given])
    return Path(words[0])


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


def _print(facts: Mapping[str, object], sentences: Sequence[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for sentence in sentences:
        typer.echo(sentence)
