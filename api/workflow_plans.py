"""Plans the steps of a workflow and submits them: what ``saman submit WORKFLOW`` does."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import UserError
from saman.runs.records.run_events import After

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.configs.schemas.workflow import Step, Workflow
    from saman.scaling.study.plan import StudyPlan
    from saman.slurm.submission.run_submission import SubmissionOptions
    from saman.slurm.workflows import PlannedStep, SubmittedStep

REPORT_TIME = "00:30:00"


@dataclass(frozen=True)
class PlannedWorkflow:
    """A workflow whose steps are planned in their order, and held against the limits.

    Attributes:
        workflow: The workflow.
        file: Its file.
        steps: The planned steps.
        studies: The plans of its studies, by step.
        notes: What the user should know.
    """

    workflow: Workflow
    file: Path
    steps: tuple[PlannedStep, ...]
    studies: Mapping[str, StudyPlan]
    notes: tuple[str, ...] = ()


def plan_workflow(file: Path, cluster: Cluster, options: SubmissionOptions) -> PlannedWorkflow:
    """Plan a workflow for ``saman.submit``: load it and plan all of its steps; nothing is written, no job is submitted.

    Args:
        file: The workflow.
        cluster: The cluster of every step.
        options: Folders and limits; its partition holds for steps that name none.

    Raises:
        UserError: The workflow has mistakes, its name is taken, a step does not fit the cluster or has nothing to do.
    """
    from saman.configs.loading.workflows import load_workflow

    workflow = load_workflow(file)
    _check_name(workflow, options.runs_dir)
    planner = _Planner(workflow, file, cluster, options)
    steps = []
    for name in workflow.order():
        with _within(name):
            steps.append(planner.plan(name, workflow.steps[name]))
    plans = [plan for step in steps for plan in step.plans]
    if any(plan.spec.name == workflow.name for plan in plans):
        raise UserError(f"{workflow.name} is also the name of a step's runs", where=f"{file}: name", remedy="another")
    return PlannedWorkflow(workflow, file, tuple(steps), planner.studies, tuple(_limits(steps, options)))


def submit_workflow(planned: PlannedWorkflow, options: SubmissionOptions) -> list[SubmittedStep]:
    """Plan and submit every step of a workflow for ``saman.submit``, or nothing.

    Args:
        planned: The planned workflow.
        options: Folders, nodes to avoid, and what the workflow waits for.

    Raises:
        UserError: An earlier submission is under way, or Slurm refuses a job; the jobs before it are cancelled.
        EnvironmentLack: Slurm does not answer, or a folder cannot be written.
    """
    from saman.jobs.reconcile import reconcile
    from saman.runs.workflows.record import find_workflow
    from saman.scaling.study.execution import hold_study
    from saman.slurm.workflows import submit_steps

    name = planned.workflow.name
    earlier = find_workflow(name, options.runs_dir)
    if earlier and not all(status.over for status in reconcile(earlier.runs(options.runs_dir))):
        remedy = f"saman status {name} shows it, saman cancel {name} ends it"
        raise UserError(f"the workflow {name} is under way", where=str(planned.file), remedy=remedy)
    with contextlib.ExitStack() as stack:
        for study in planned.studies.values():
            stack.enter_context(hold_study(study, options.runs_dir))
        return submit_steps(name, planned.file, planned.steps, options)


def _check_name(workflow: Workflow, runs_dir: Path) -> None:
    if (runs_dir / workflow.name).exists():
        problem = f"{workflow.name} is the name of an experiment or study in {runs_dir}"
        raise UserError(problem, where="name", remedy="another name for the workflow")


@contextlib.contextmanager
def _within(step: str) -> Iterator[None]:
    """Name the step in every error."""
    try:
        yield
    except UserError as error:
        where = f"step {step}: {error.where}" if error.where else f"step {step}"
        raise type(error)(error.problem, where=where, remedy=error.remedy, others=error.others) from None


def _limits(steps: Sequence[PlannedStep], options: SubmissionOptions) -> Iterator[str]:
    from saman.slurm.submission.planning import check_limits

    plans = [plan for step in steps for plan in step.plans]
    if options.ignore_limits:
        return
    for partition in dict.fromkeys(plan.choice.partition.name for plan in plans):
        yield from check_limits(*(plan for plan in plans if plan.choice.partition.name == partition))


class _Planner:
    """Plans the steps of a workflow, one after another."""

    def __init__(self, workflow: Workflow, file: Path, cluster: Cluster, options: SubmissionOptions) -> None:
        self._workflow, self._file, self._cluster, self._options = workflow, file, cluster, options
        self._reported: dict[str, str] = {}  # step -> the name under which `saman report` finds its runs
        self.studies: dict[str, StudyPlan] = {}

    def plan(self, name: str, step: Step) -> PlannedStep:
        """Plan a step whose forerunners are planned."""
        kinds = {
            "program": self._program, "experiment": self._experiment, "study": self._study, "report": self._report
        }  # fmt: skip
        planned = kinds[step.kind](name, step)
        # A report is of no use if nothing of what it reports can begin.
        needed = self._workflow.steps[step.report].after if step.report is not None else []
        waits = {**dict.fromkeys(needed, True), **step.waits}
        return replace(planned, waits={n: After.OK if ok else After.ANY for n, ok in waits.items()})

    def _experiment(self, name: str, step: Step) -> PlannedStep:
        from saman.configs.loading.experiments import load_experiment
        from saman.configs.loading.workflows import beside
        from saman.registry.references import resolved

        file = beside(self._file, str(step.experiment))
        loaded = resolved(load_experiment(file, _overrides(step.changes), step.ranks), self._options.models_dir)
        self._reported[name] = loaded.experiment.name
        return self._step(name, f"experiment {step.experiment}", step, loaded.experiment, loaded.code_path)

    def _program(self, name: str, step: Step) -> PlannedStep:
        from saman.launcher.programs import script_from_command

        spec = script_from_command(step.program or (), _overrides(step.changes), step.ranks)
        return self._step(name, f"program {shlex.join(step.program or ())}", step, spec, (Path.cwd(),))

    def _report(self, name: str, step: Step) -> PlannedStep:
        from saman.launcher.programs import script_from_command

        of = self._reported[str(step.report)]
        runs_dir = str(self._options.runs_dir.absolute())
        command = ["python", "-m", "saman", "report", of, "--runs-dir", runs_dir, "--exit-zero"]
        changes = {"resources.time_limit": REPORT_TIME, **step.changes, "name": f"{self._workflow.name}-{name}"}
        return self._step(name, f"report of {of}", step, script_from_command(command, _overrides(changes)), ())

    def _step(
        self, name: str, kind: str, step: Step, spec: Experiment | Script, code_path: Sequence[Path]
    ) -> PlannedStep:
        from saman.slurm.submission import planning
        from saman.slurm.workflows import PlannedStep

        partition = step.partition or self._options.partition
        plan = planning.plan(spec, self._cluster, self._options.runs_dir, partition)
        return PlannedStep(name, kind, {}, (plan,), tuple(code_path))

    def _study(self, name: str, step: Step) -> PlannedStep:
        from saman.api.study_plans import StudyChanges, plan_for
        from saman.configs.loading.workflows import beside
        from saman.runs.studies import StudyRunState
        from saman.scaling.study.execution import check_limit, cost, planned_run_states
        from saman.slurm.submission import planning
        from saman.slurm.workflows import PlannedStep

        partition, runs_dir = step.partition or self._options.partition, self._options.runs_dir
        changes = StudyChanges(tuple(_overrides(step.changes)))
        plan = plan_for(
            beside(self._file, str(step.study)), runs_dir, self._cluster, partition, changes, self._options.models_dir
        )
        states = planned_run_states(plan, runs_dir)
        check_limit(plan, cost(states))
        if any(status.state is StudyRunState.WAITING for status in states):
            problem = f"the study {plan.study.name} is under way"
            raise UserError(problem, where=str(plan.file), remedy=f"saman wait {plan.study.name}, or saman cancel")
        self._reported[name], self.studies[name] = plan.study.name, plan
        wanted = [status.planned.loaded for status in states if status.to_run]
        plans = tuple(
            planning.plan(each.experiment, self._cluster, runs_dir, partition, whole_nodes=plan.study.whole_nodes)
            for each in wanted
        )
        complete = tuple(f"{plan.study.name}/{s.run.id}" for s in states if s.run is not None and not s.to_run)
        code_path = wanted[0].code_path if wanted else ()
        kind = f"study {plan.study.name}, {len(plans)} runs"
        return PlannedStep(name, kind, {}, plans, code_path, True, plan.study.concurrency, complete)


def _overrides(changes: Mapping[str, Any]) -> list[str]:
    """``set`` of a step as ``KEY=VALUE``; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]
