"""``saman demo``: trains, compares and publishes on shipped data; needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from saman.cli.options import MODELS, RUNS, ModelsDir, RunsDir

if TYPE_CHECKING:
    from rich.console import Console

    from saman.launcher.supervision.outcome import Outcome
    from saman.runs.comparison import Comparison


def demo_command(
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
) -> None:
    """Train an experiment with Horovod and again with tf.distribute, each on 2 ranks, and compare the two.

    The Horovod model is published.

    Examples:

        saman demo

        saman demo --models-dir /tmp/models
    """
    from rich.console import Console

    from saman.cli.runs.outcome import print_finished
    from saman.jobs.publishing import FinishedRun, Publication, PublicationState, publish_if_asked
    from saman.launcher.node.machine import other_users
    from saman.runs.comparison import compare_runs

    console = Console()
    outcomes = []
    for strategy in strategies(other_users()):
        outcome = _train(console, strategy, runs_dir)
        wanted = strategy == "horovod"
        published = publish_if_asked(outcome.run, models_dir) if wanted else Publication(PublicationState.NOT_ASKED)
        finished = FinishedRun(outcome, published)
        print_finished(console, finished)
        if finished.exit_code:
            raise typer.Exit(finished.exit_code)
        outcomes.append(outcome)
    comparison = compare_runs([outcome.run for outcome in outcomes])
    console.print()
    console.print(_table(comparison, outcomes))
    _say_weights(console, comparison)
    console.print(f"  report: {_report([outcome.run.path for outcome in outcomes])}")


def strategies(other_users: Sequence[str]) -> tuple[str, str]:
    """Horovod and a strategy of tf.distribute for the demo.

    ``multi_worker`` opens ports without authentication, so beside other users of the machine it is ``mirrored``.
    """
    return "horovod", "mirrored" if other_users else "multi_worker"


def _report(runs: list[Path]) -> Path:
    """Write the report of the two runs."""
    from saman.scaling.analysis.analysis import analyse
    from saman.scaling.analysis.results import read_runs
    from saman.scaling.report.pages import study_page
    from saman.scaling.report.writer import write_report

    command = "saman report " + " ".join(path.name for path in runs)
    return write_report(study_page(analyse(read_runs(runs)), "demo", command), Path("reports") / "demo", papers=False)


def _train(console: Console, strategy: str, runs_dir: Path) -> Outcome:
    from saman.cli.runs.view import RunView
    from saman.configs.loading.experiments import load_experiment
    from saman.launcher.local import run_locally
    from saman.launcher.planning import Options

    loaded = load_experiment("quickstart", [f"train.strategy={strategy}"])
    with RunView(console, f"quickstart, {strategy} on {loaded.experiment.resources.ranks} ranks") as view:
        return run_locally(loaded, Options(runs_dir=runs_dir), view)


def _table(comparison: Comparison, outcomes: list[Outcome]) -> Any:
    from rich.table import Table

    from saman.cli.output import short_number
    from saman.configs.units import format_duration

    table = Table(
        box=None,
        pad_edge=False,
        header_style="bold",
        title="one experiment file, two strategies; samples/s: all samples ÷ all seconds, without tracing",
    )
    table.title_justify = "left"
    for heading in ("strategy", "ranks", "samples/s", "5 – 95 % of windows", "windows", "val_accuracy", "time"):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    for row, outcome in zip(comparison.rows, outcomes, strict=True):
        measured = row.throughput
        accuracy = row.metrics.get("val_accuracy")
        table.add_row(
            row.strategy,
            str(row.ranks),
            _cell(measured and short_number(measured.sustained)),
            _cell(measured and f"{short_number(measured.p5)} – {short_number(measured.p95)}"),
            str(measured.windows if measured else 0),
            _cell(accuracy if accuracy is None else f"{accuracy:.4f}"),
            format_duration(outcome.seconds),
        )
    return table


def _say_weights(console: Console, comparison: Comparison) -> None:
    difference, tensor = comparison.weight_difference
    if comparison.same_weights:
        how = f"‖difference‖ ÷ ‖weights‖ ≤ {difference:.0e} for every tensor" if difference else "bit for bit"
        sentence = f"both end with the same weights: {how}"
        console.print(sentence, style="green", soft_wrap=True)
    else:
        sentence = f"the weights differ: ‖difference‖ ÷ ‖weights‖ = {difference:.1e} in {tensor}; they should be equal"
        console.print(sentence, style="red", soft_wrap=True)
        raise typer.Exit(1)


def _cell(value: Any) -> str:
    return "–" if value is None else str(value)
