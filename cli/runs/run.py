"""``saman run``: train an experiment, or start somebody's own program, here and now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.configs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.launcher.planning import LaunchPlan, Options
    from saman.launcher.supervision.outcome import Outcome

LAST_LINES = 12
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[EXPERIMENT] [KEY=VALUE]...", help="A shipped name or a YAML file, then overrides."),
]
Ranks = Annotated[int | None, typer.Option("-np", metavar="N", help="Number of ranks, as in horovodrun.")]
RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")]
ModelsDir = Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(
    context: typer.Context,
    words: Words = None,
    ranks: Ranks = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and end.")] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Make the run folder and print the command that starts it by hand.")
    ] = False,
    all_ranks: Annotated[bool, typer.Option("--all-ranks", help="Show what every rank prints.")] = False,
    legacy_keras: Annotated[
        bool, typer.Option("--legacy-keras", help="For programs that need Keras 2 on a current TensorFlow.")
    ] = False,
    runs_dir: RunsDir = Path("runs"),
    models_dir: ModelsDir = Path("models"),
    as_json: Json = False,
) -> None:
    """Train an experiment here, now; or start a program on every rank.

    Examples:

        saman run quickstart

        saman run my.yaml -np 4 train.epochs=2 launch.with=mpirun

        saman run my.yaml -np 4 --dry-run

        saman run -np 4 -- python their_script.py --lr 0.1
    """
    from rich.console import Console

    from saman.launcher.local import run_locally, run_script
    from saman.launcher.planning import Options

    console = Console(stderr=as_json)
    options = Options(runs_dir=runs_dir, all_ranks=all_ranks)
    if context.obj is not None:
        spec = _script(context.obj, words or [], ranks, legacy_keras)
        if dry_run:
            _show_plan(console, spec, Path(spec.directory), (), options, as_json)
            return
        with _view(console, spec.name, as_json) as view:
            outcome = run_script(spec, options, view)
    else:
        if legacy_keras:
            raise UserError(
                "--legacy-keras is for programs", remedy="saman run --legacy-keras -np 2 -- python script.py"
            )
        loaded = _loaded(words or [], ranks)
        if dry_run:
            _show_plan(console, loaded.experiment, Path.cwd(), loaded.code_path, options, as_json)
            return
        if prepare:
            _prepare(loaded, options)
            return
        with _view(console, loaded.experiment.name, as_json) as view:
            outcome = run_locally(loaded, options, view)
    finish(console, outcome, models_dir, as_json)


def finish(console: Console, outcome: Outcome, models_dir: Path, as_json: bool = False) -> None:
    """Publish what the experiment says, tell how it ended, and end with the run's exit code."""
    published = publish_if_asked(outcome, models_dir)
    show_if_asked(console, outcome)
    if as_json:
        facts = {"run": str(outcome.run.path), "state": outcome.state.value, "exit_code": int(outcome.exit_code)}
        summary = outcome.run.summary()
        written = summary.to_json() if summary else {}
        typer.echo(json.dumps({**facts, "message": outcome.message, "summary": written, **published}, indent=2))
    else:
        tell(console, outcome, published)
    if outcome.exit_code:
        raise typer.Exit(int(outcome.exit_code))


def show_if_asked(console: Console, outcome: Outcome) -> None:
    """Show the run where its ``tracking`` asks, and say what has to wait; that never changes how the run ended."""
    from saman.registry.tracking.delivery import track_if_asked

    for one in track_if_asked(outcome.run):
        if one.problem:
            console.print(f"  tracking waits, nothing is lost: {one.problem}", style="yellow", markup=False)


def publish_if_asked(outcome: Outcome, models_dir: Path) -> dict[str, Any]:
    """Make a completed run's export the next version where its experiment says so.

    Returns what happened: ``{"published": …}``, ``{"not_published": reason}`` or nothing.
    """
    run = outcome.run
    if outcome.exit_code != ExitCode.DONE or run.is_script or run.experiment().publish is None:
        return {}
    from saman.registry.evaluation.gates import PublishRefusal
    from saman.registry.lifecycle.publish import publish

    try:
        version = publish(run, models_dir)
    except PublishRefusal as refusal:
        return {"not_published": refusal.problem.removeprefix("not published: ")}
    return {"published": {"model": version.model, "version": version.number, "path": str(version.path)}}


def tell(console: Console, outcome: Outcome, published: dict[str, Any]) -> None:
    """Print how a run ended, what was published, and where everything lies."""
    from rich.text import Text

    from saman.cli.runs.view import number, seconds

    good = outcome.exit_code == ExitCode.DONE
    paused = outcome.exit_code == ExitCode.REQUEUE
    mark, style = ("✓ ", "bold green") if good else ("– ", "bold yellow") if paused else ("✗ ", "bold red")
    head = Text(mark, style=style)
    console.print(head + Text(outcome.message), soft_wrap=True)
    if not good and not paused:
        _tell_failure(console, outcome)
    summary = outcome.run.summary()
    rate = summary.samples_per_second if summary else None
    figures = [seconds(outcome.seconds), *([f"{number(rate)} samples/s"] if rate else [])]
    figures += [f"{name} {value:.4g}" for name, value in (summary.metrics if summary else {}).items()]
    if good and figures:
        console.print(Text("  " + "  ".join(figures)), soft_wrap=True)
    if "published" in published:
        version = published["published"]
        console.print(Text(f"  published as {version['model']} version {version['version']}: {version['path']}"))
    if "not_published" in published:
        console.print(Text(f"  not published: {published['not_published']}", style="yellow"), soft_wrap=True)
    console.print(Text(f"  {shown(outcome.run.path)}", style="dim"), soft_wrap=True)


def _tell_failure(console: Console, outcome: Outcome) -> None:
    """Print what each first failing rank said last; what the start method printed, where no rank could say anything."""
    from rich.text import Text

    from saman.cli.runs.view import CHATTER

    failed = outcome.failure.first if outcome.failure else ()
    for rank in failed:
        if rank.message:
            console.print(Text(f"  rank {rank.rank}: {rank.message}", style="red"), soft_wrap=True)
        lines = [line for line in rank.last_lines if not CHATTER.match(line)][-LAST_LINES:]
        for line in lines if rank.rank else ():  # the chief's lines were shown as they came
            console.print(Text(f"  [{rank.rank}] {line}", style="dim"), soft_wrap=True)
    for line in () if failed else outcome.starter_lines:
        console.print(Text("  " + line, style="dim"), soft_wrap=True)


def shown(path: Path) -> str:
    """A path as short as it can be named from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _view(console: Console, title: str, quiet: bool) -> Any:
    from saman.cli.runs.view import RunView

    return RunView(console, title, quiet)


def _loaded(words: list[str], ranks: int | None) -> Any:
    from saman.configs.loading.experiments import load_experiment
    from saman.configs.loading.files import shipped

    if not words or "=" in words[0].split("/")[-1]:
        names = ", ".join(shipped("experiments"))
        raise UserError("no experiment is named", remedy=f"saman run EXPERIMENT; a .yaml file, or one of: {names}")
    return load_experiment(words[0], words[1:], ranks)


def _script(program: list[str], words: list[str], ranks: int | None, legacy_keras: bool) -> Script:
    """The program after ``--`` with overrides of ``resources`` and ``launch``."""
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.loading.files import overridden
    from saman.configs.problems import validated
    from saman.configs.schemas.script import Script
    from saman.launcher.programs import script_name

    if not program:
        raise UserError("no program stands after --", remedy="saman run -np 4 -- python their_script.py")
    values = overridden(
        {
            "name": script_name(program),
            "command": program,
            "directory": str(Path.cwd()),
            "legacy_keras": legacy_keras,
        },
        words,
    )
    return validated(Script, with_ranks(values, ranks) if ranks is not None else values, "command line")


def _prepare(loaded: Any, options: Options) -> None:
    from saman.launcher.planning import make_plan
    from saman.runs.folder import RunFolder

    folders = [str(folder) for folder in loaded.code_path]
    plan = make_plan(loaded.experiment, Path.cwd(), loaded.code_path, options)
    run = RunFolder.create(options.runs_dir, loaded.experiment, code_path=folders, directory=str(Path.cwd()))
    processes = len(plan.placement.processes)
    typer.echo(f"horovodrun -np {processes} python -m saman.trainers.worker {shown(run.path)}")


def _show_plan(
    console: Console,
    spec: Experiment | Script,
    directory: Path,
    code_path: tuple[Path, ...],
    options: Options,
    as_json: bool,
) -> None:
    from saman.launcher.planning import make_plan
    from saman.runs.paths import planned_run

    plan = make_plan(spec, directory, code_path, options)
    command = plan.command_text(planned_run(options.runs_dir, spec.name))
    if as_json:
        facts = {
            "resolved": spec.resolved(),
            "placement": plan.placement.to_json(),
            "command": command,
            "notes": list(plan.notes),
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    _print_plan(console, plan, command)


def _print_plan(console: Console, plan: LaunchPlan, command: str) -> None:
    from rich.rule import Rule
    from rich.text import Text

    from saman.configs import yaml12

    width = min(console.width, 100)
    console.print(Rule("resolved", align="left", style="dim"), width=width)
    console.print(Text(yaml12.dump(plan.spec.resolved())), soft_wrap=True)
    console.print(Rule("placement", align="left", style="dim"), width=width)
    console.print(_placement_table(plan))
    for note in plan.notes:
        console.print(Text("  " + note, style="dim"), soft_wrap=True)
    console.print()
    console.print(Rule("command", align="left", style="dim"), width=width)
    console.print(Text(command), soft_wrap=True)


def _placement_table(plan: LaunchPlan) -> Any:
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
