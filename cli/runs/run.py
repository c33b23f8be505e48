"""``saman run``: train an experiment, or start a program on every rank, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import MODELS, RUNS, Json, LegacyKeras, Metrics, ModelsDir, Ranks, RunsDir, Words, with_metrics
from saman.configs.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from saman.configs.loading.experiments import LoadedExperiment
    from saman.configs.schemas.script import Script
    from saman.launcher.planning import Options


def run_command(
    context: typer.Context,
    words: Words = None,
    ranks: Ranks = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print placement and command; start nothing.")] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Create the run folder and print the horovodrun command for it.")
    ] = False,
    all_ranks: Annotated[
        bool, typer.Option("--all-ranks", help="Show the output of all ranks, not only rank 0.")
    ] = False,
    legacy_keras: LegacyKeras = False,
    metrics: Metrics = None,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Train an experiment on this machine, or start a program on every rank.

    Examples:

        saman run quickstart

        saman run my.yaml -np 4 train.epochs=2 launch.with=mpirun

        saman run my.yaml -np 4 --dry-run

        saman run -np 4 -- python their_script.py --lr 0.1
    """
    from rich.console import Console

    from saman.cli.output import shown_path
    from saman.cli.runs.outcome import end_with
    from saman.cli.runs.view import RunView
    from saman.configs.loading.experiments import LoadedExperiment
    from saman.jobs.local import run_here
    from saman.launcher.local import prepare_by_hand
    from saman.launcher.planning import Options
    from saman.registry.references import resolved
    from saman.slurm.job.interactive import with_allocation

    console = Console(stderr=as_json)
    what = _named(context, with_metrics(words, metrics), ranks, legacy_keras)
    if isinstance(what, LoadedExperiment):
        what = resolved(what, models_dir.absolute())
    what, options = with_allocation(what, Options(runs_dir=runs_dir, all_ranks=all_ranks), ranks)
    if dry_run:
        _show_plan(console, what, options, as_json)
    elif prepare:
        prepared = prepare_by_hand(_experiment(what), options)
        typer.echo(prepared.command(shown_path(prepared.run.path)))
    else:
        with RunView(console, _name(what), as_json) as view:
            finished = run_here(what, options, models_dir, view)
        end_with(console, finished, as_json)


def _named(
    context: typer.Context, words: list[str], ranks: int | None, legacy_keras: bool
) -> LoadedExperiment | Script:
    """The program behind ``--``, or the experiment that the words name."""
    if context.obj is not None:
        from saman.launcher.programs import script_from_command

        return script_from_command(context.obj, words, ranks, legacy_keras)
    if legacy_keras:
        raise UserError("--legacy-keras is for programs", remedy="saman run --legacy-keras -np 2 -- python script.py")
    return _loaded(words, ranks)


def _experiment(what: LoadedExperiment | Script) -> LoadedExperiment:
    from saman.configs.loading.experiments import LoadedExperiment

    if isinstance(what, LoadedExperiment):
        return what
    raise UserError("--prepare is for experiments", remedy="horovodrun starts a program without saman")


def _name(what: LoadedExperiment | Script) -> str:
    from saman.configs.schemas.script import Script

    return what.name if isinstance(what, Script) else what.experiment.name


def _loaded(words: list[str], ranks: int | None) -> LoadedExperiment:
    from saman.configs.loading.experiments import load_experiment
    from saman.configs.loading.files import shipped
    from saman.launcher.programs import refuse_program

    if not words or "=" in words[0].split("/")[-1]:
        names = ", ".join(shipped("experiments"))
        raise UserError("missing experiment", remedy=f"saman run EXPERIMENT; a .yaml file, or one of: {names}")
    if words[0] not in shipped("experiments"):
        refuse_program(words, "saman run")
    return load_experiment(words[0], words[1:], ranks)


def _show_plan(console: Console, what: LoadedExperiment | Script, options: Options, as_json: bool) -> None:
    from saman.cli.runs.plan_view import print_plan
    from saman.configs.schemas.script import Script
    from saman.launcher.planning import make_plan
    from saman.runs.paths.runs_folder import planned_run

    if isinstance(what, Script):
        plan = make_plan(what, Path(what.directory), (), options)
    else:
        plan = make_plan(what.experiment, Path.cwd(), what.code_path, options)
    command = plan.command_text(planned_run(options.runs_dir, plan.spec.name))
    print_plan(console, plan, command, as_json)
