"""``saman schedule``: batch inference over new files, daily, weekly or monthly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.models.arguments import Spec
from saman.cli.options import MODELS, RUNS, Json, ModelsDir, RunsDir
from saman.cli.output import print_json

if TYPE_CHECKING:
    from saman.jobs.schedules.inference_schedule import ScheduledResult

app = typer.Typer(no_args_is_help=True, help="Batch inference over new files, each exactly once: run, print.")

Inputs = Annotated[Path, typer.Option("--input", "-i", help="The folder in which files arrive (.npy, .npz, .parquet).")]
Outputs = Annotated[Path, typer.Option("--output", "-o", help="The folder of the Parquet files.")]
Ranks = Annotated[int, typer.Option("-np", metavar="N", min=1, help="Number of ranks, each with one thread.")]
Settle = Annotated[float, typer.Option("--settle", help="Leave files that are younger, in seconds, to the next run.")]


@app.command("run")
def run_command(
    model: Spec,
    inputs: Inputs,
    outputs: Outputs,
    ranks: Ranks = 1,
    settle: Settle = 60.0,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Predict every file of a folder that has no output yet. Exit status 1 if a file failed; the next run retries it.

    Example:

        saman schedule run digits --input incoming/ --output answers/
    """
    from saman.jobs.schedules.inference_schedule import infer_new

    done = infer_new(models_dir, model, inputs, outputs, runs_dir, ranks=ranks, settle_seconds=settle)
    if as_json:
        print_json([_facts(one) for one in done])
    else:
        for one in done:
            typer.echo(f"{one.file.path}: {one.problem}" if one.result is None else
                       f"{one.file.path}: {one.result.rows} rows, {one.result.bad} bad: {one.file.output}")  # fmt: skip
        typer.echo(f"new files: {len(done)}")
    if any(one.result is None for one in done):
        raise typer.Exit(1)


def _facts(one: ScheduledResult) -> dict[str, object]:
    result = one.result
    counts = {"rows": result.rows, "bad_rows": result.bad} if result else {"problem": one.problem}
    return {"input": str(one.file.path), "output": str(one.file.output), **counts}


@app.command("print")
def print_command(
    model: Spec,
    inputs: Inputs,
    outputs: Outputs,
    every: Annotated[str, typer.Option("--every", help="daily, weekly or monthly.")] = "daily",
    scheduler: Annotated[str, typer.Option("--for", help="crontab, or scrontab (Slurm).")] = "crontab",
    hour: Annotated[int, typer.Option("--hour", help="The hour of the day.")] = 3,
    script: Annotated[Path, typer.Option("--script", help="The job script to write.")] = Path("infer-new.sh"),
    ranks: Ranks = 1,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Write the job script, and print the line for `crontab -e` or `scrontab -e`.

    Example:

        saman schedule print digits -i incoming/ -o answers/ --every weekly --for scrontab
    """
    import sys

    from saman.configs.errors import UserError, choices
    from saman.jobs.schedules.inference_schedule import Period, Scheduler, is_job_script, render_line, render_script
    from saman.registry.versions import find_version
    from saman.runs.files.whole import write_whole

    for text, kinds, where in ((every, Period, "--every"), (scheduler, Scheduler, "--for")):
        names = [kind.value for kind in kinds]
        if text not in names:
            raise UserError(f"{text!r} is unknown", where=where, remedy=choices(text, names))
    find_version(models_dir, model)
    command = [sys.executable, "-m", "saman", "schedule", "run", model, "--input", str(inputs.absolute()),
               "--output", str(outputs.absolute()), "-np", str(ranks), "--runs-dir", str(runs_dir.absolute()),
               "--models-dir", str(models_dir.absolute())]  # fmt: skip
    place = script.absolute()
    line = render_line(Scheduler(scheduler), Period(every), place, place.with_suffix(".log"), hour=hour, cpus=ranks)
    if place.exists() and not is_job_script(place):
        raise UserError(
            "this file is not a script of saman schedule", where=f"--script {script}", remedy="another name"
        )
    write_whole(place, render_script(command, Path.cwd()))
    place.chmod(0o755)
    typer.echo(line, nl=False)
