"""``saman submit WORKFLOW``: the steps of a workflow as jobs that wait for each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from saman.cli.output import print_json
from saman.configs.errors import UserError

if TYPE_CHECKING:
    from saman.api.workflow_plans import PlannedWorkflow
    from saman.configs.schemas.cluster import Cluster
    from saman.runs.records.run_events import After
    from saman.slurm.submission.run_submission import SubmissionOptions
    from saman.slurm.workflows import PlannedStep


def refuse_options(file: str, given: Sequence[str]) -> None:
    """Refuse options that are for a single run."""
    if given:
        problem = f"{', '.join(given)}: a workflow has several runs"
        raise UserError(problem, where=f"saman submit {file}", remedy="write it in the steps: set, ranks, partition")


def submit_workflow_file(
    file: Path, site: Cluster, options: SubmissionOptions, dry_run: bool, as_json: bool, note: str | None
) -> None:
    """Plan a workflow, and print its order with the lines of sbatch, or submit it."""
    from saman.api.workflow_plans import plan_workflow, submit_workflow

    planned = plan_workflow(file, site, replace(options, ignore_limits=options.ignore_limits or dry_run))
    notes = [*filter(None, [note]), *options.dependency.sentences(), *planned.notes]
    if dry_run:
        _show_plan(planned, notes, as_json)
        return
    done = submit_workflow(planned, options)
    name = planned.workflow.name
    if as_json:
        steps = [
            {
                "step": each.planned.name,
                "after": list(each.planned.waits),
                "runs": [{"run": str(one.run.path), "job": one.job} for one in each.submissions],
            }
            for each in done
        ]
        print_json({"workflow": name, "steps": steps, "notes": notes})
        return
    for text in notes:
        typer.echo(text)
    for each in done:
        jobs = [one.job for one in each.submissions]
        typer.echo(f"{each.planned.name}: {_named(jobs)}{_after(each.planned.waits)}")
    typer.echo(f"follow it: saman status {name}; saman cancel {name} ends it; saman resume {name} continues it")


def _after(waits: Mapping[str, After]) -> str:
    return ", after " + " and ".join(f"{name} {after.verb}s" for name, after in waits.items()) if waits else ""


def _named(jobs: Sequence[str]) -> str:
    if not jobs:
        return "complete already"
    return f"job {jobs[0]}" if len(jobs) == 1 else f"{len(jobs)} jobs, from {jobs[0]} on"


def _show_plan(planned: PlannedWorkflow, notes: Sequence[str], as_json: bool) -> None:
    if as_json:
        steps = [
            {"step": step.name, "kind": step.kind, "after": list(step.waits), "sbatch": _line(step),
             "runs": len(step.plans)} for step in planned.steps
        ]  # fmt: skip
        print_json({"workflow": planned.workflow.name, "steps": steps, "notes": list(notes)})
        return
    for note in notes:
        typer.echo(f"# {note}")
    for number, step in enumerate(planned.steps, 1):
        typer.echo(f"# step {number} of {len(planned.steps)}: {step.name}: {step.kind}{_after(step.waits)}")
        for line in (_line(step), *_options(step)):
            typer.echo(line)


def _line(step: PlannedStep) -> str:
    """The call of sbatch; a step in capitals stands for its jobs."""
    waits = {after.value: [n.upper() for n, a in step.waits.items() if a is after] for after in step.waits.values()}
    found = ",".join(":".join((f"after{condition}", *names)) for condition, names in waits.items())
    options = f"--dependency={found} --kill-on-invalid-dep=yes" if found else "--hold"
    arrays = " (as job arrays)" if step.study else ""
    return f"sbatch --parsable {options} job.sbatch{arrays}" if step.plans else "# complete already"


def _options(step: PlannedStep) -> Iterator[str]:
    """The ``#SBATCH`` lines of each distinct request."""
    heads = ("\n".join(line for line in p.text.splitlines() if line.startswith("#SBATCH")) for p in step.plans)
    yield from dict.fromkeys(heads)
