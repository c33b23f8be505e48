"""``saman predict``: throughput at rank counts that were not run; by laws, by pipeline stages, by simulation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.cli.options import RUNS, Json, RunsDir

if TYPE_CHECKING:
    from rich.console import Console

    from saman.scaling.analysis.analysis import Analysis
    from saman.scaling.forecasts import Forecasts, SimulatedCurve
    from saman.scaling.pipelines.forecast import PipelineForecast
    from saman.scaling.report.rows import PredictionRow
    from saman.scaling.simulation.resilience import MeasuredCosts, Resilience
    from saman.scaling.stack.track_record import TrackRecord


def predict_command(
    what: Annotated[
        list[str], typer.Argument(metavar="STUDY_OR_RUNS...", help="A study, a folder of runs, or individual runs.")
    ],
    ranks: Annotated[str, typer.Option("--ranks", help="Numbers of ranks, for example 64,256,1024.")],
    micro_batches: Annotated[
        str | None, typer.Option("--micro-batches", help="Pipelines: micro-batches per replica, as 8,32.")
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages",
            help="Pipelines: stages per replica, for example 2,4; new numbers need a profile (saman partition).",
        ),
    ] = None,
    simulate: Annotated[bool, typer.Option("--simulate", help="Also simulate, calibrated from the runs.")] = False,
    mtbf_hours: Annotated[
        float | None,
        typer.Option(
            "--node-mtbf-hours", min=0.001, help="Simulate node failures; mean hours between failures of one node."
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option("--checkpoint-every", min=1, help="Steps between checkpoints.")
    ] = 1000,
    checkpoint_seconds: Annotated[
        float, typer.Option("--checkpoint-seconds", min=0, help="Seconds per checkpoint.")
    ] = 30.0,
    restart_seconds: Annotated[
        float, typer.Option("--restart-seconds", min=0, help="Seconds lost per failure.")
    ] = 300.0,
    mtbf: Annotated[
        str | None,
        typer.Option(
            "--mtbf",
            help="Goodput and the best checkpoint interval, with measured costs; mean time between failures of a node, "
            "such as 30d.",
        ),
    ] = None,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Predict throughput, efficiency and cost at rank counts that were not run.

    Examples:

        saman predict my-study.yaml --ranks 64,256,1024 --simulate

        saman predict my-pipelines.yaml --ranks 4,8 --micro-batches 8,32 --stages 2,4

        saman predict my-run --ranks 64,1024 --mtbf 30d
    """
    from rich.console import Console

    from saman.scaling.forecasts import ForecastRequest, make_forecasts
    from saman.scaling.simulation.interruptions import Interruptions

    failures = None
    if mtbf_hours is not None:
        failures = Interruptions(checkpoint_every, checkpoint_seconds, restart_seconds, mtbf_hours)
    request = ForecastRequest(
        ranks=_counts(ranks, "--ranks", "rank counts"),
        micro_batches=_counts(micro_batches, "--micro-batches", "numbers of micro-batches") if micro_batches else None,
        stages=_counts(stages, "--stages", "numbers of stages") if stages else None,
        simulate=simulate,
        interruptions=failures,
        node_mtbf_seconds=_span(mtbf, "--mtbf") if mtbf else None,
    )
    found = make_forecasts(what, runs_dir, request)
    if as_json:
        typer.echo(json.dumps(_to_json(found), indent=2))
    else:
        _show_all(Console(), found, simulate)


def _show_all(console: Console, found: Forecasts, simulate: bool) -> None:
    if found.rows:
        _show(console, found.analysis, found.rows)
    if found.pipelines.predictions:
        _show_pipelines(console, found.pipelines, found.analysis.pipeline_track)
    for simulated in found.simulated:
        _show_simulation(console, simulated)
    if found.costs is not None:
        _show_resilience(console, found.costs, found.resilience)
    if simulate and not found.simulated:
        console.print("no simulation: it needs runs on 1 rank and on two other counts")
    for curve in found.analysis.drawable:
        for refused in curve.refused:
            console.print(f"refused: {curve.label}: {refused.words}", style="yellow", markup=False)


def _to_json(found: Forecasts) -> dict[str, Any]:
    from saman.scaling.statistics.columns import to_columns

    pipelines = found.pipelines
    facts: dict[str, Any] = {"predictions": [to_columns(row) for row in found.rows]}
    facts["track_record"] = asdict(found.analysis.track) if found.analysis.track else None
    kept = found.analysis.pipeline_track
    facts["pipeline_track_record"] = asdict(kept) if kept else None
    facts["findings"] = [asdict(finding) for finding in found.analysis.findings]
    facts["pipelines"] = {**asdict(pipelines), "predictions": [to_columns(row) for row in pipelines.predictions]}
    facts["resilience"] = [asdict(each) for each in found.resilience]
    facts["costs"] = asdict(found.costs) if found.costs is not None else None
    facts["simulated"] = [asdict(curve.simulation) for curve in found.simulated]
    for plain, curve in zip(facts["simulated"], found.simulated, strict=True):
        for point, goodput in zip(plain["points"], curve.goodput or (), strict=False):
            point["survived"] = asdict(goodput)
    return facts


def _counts(text: str, option: str, what: str) -> tuple[int, ...]:
    from saman.configs.errors import UserError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise UserError(f"{text!r} are not {what}", where=option, remedy="64,256,1024")
    return tuple(sorted({int(word) for word in words}))


def _show(console: Console, analysis: Analysis, rows: Sequence[PredictionRow]) -> None:
    from rich.table import Table

    from saman.scaling.report.cells import format_interval, format_number
    from saman.scaling.report.page_tables import prediction_note

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("series", "ranks", "nodes", "samples/s", "efficiency", "loss at boundary", "node-hours/epoch"):
        table.add_column(heading, justify="left" if heading == "series" else "right")
    for row in rows:
        rate = format_interval(row.samples_per_second, row.samples_per_second_low, row.samples_per_second_high)
        shares = (format_number(row.efficiency, percent=True), format_number(row.cliff_probability, percent=True))
        cells = (rate + (" !" if row.caution else ""), *shares)
        table.add_row(row.series, str(row.ranks), str(row.nodes), *cells, format_number(row.node_hours_per_epoch))
    console.print(table, markup=False)
    for series, laws in dict.fromkeys((row.series, row.laws) for row in rows if row.laws):
        console.print(f"{series}: {laws}", style="dim", markup=False)
    if analysis.stack is not None:
        console.print(prediction_note(analysis.stack, analysis.track), style="dim", markup=False)
    for caution in dict.fromkeys(f"! {row.ranks} ranks: {row.caution}" for row in rows if row.caution):
        console.print(caution, style="yellow")


def _span(text: str, option: str) -> float:
    from saman.configs.errors import UserError
    from saman.configs.units import parse_span

    try:
        seconds = parse_span(text)
    except ValueError as error:
        raise UserError(str(error), where=option, remedy="30d") from None
    if seconds == 0:
        raise UserError(f"{text!r} is no time", where=option, remedy="30d")
    return float(seconds)


def _show_resilience(console: Console, costs: MeasuredCosts, found: Sequence[Resilience]) -> None:
    from rich.table import Table

    from saman.configs.units import format_duration

    table = Table(box=None, header_style="bold", pad_edge=False, title="under failures", title_justify="left")
    for heading in ("ranks", "nodes", "time between failures", "checkpoint every", "goodput"):
        table.add_column(heading, justify="right")
    for each in found:
        spans = (format_duration(each.mtbf_seconds), format_duration(each.interval_seconds))
        table.add_row(str(each.ranks), str(each.nodes), *spans, f"{each.goodput:.1%}")
    console.print(table, markup=False)
    of = f"{costs.failures} restarts" if costs.failures else "the starts of runs without a failure"
    console.print(
        f"measured in {costs.runs} runs: a checkpoint costs {costs.checkpoint:.3g} s, a restart {costs.restart:.3g} s "
        f"({of}); train.checkpoint: {{every: auto}} takes the interval (Young, Daly)",
        style="dim", markup=False,
    )  # fmt: skip


def _show_pipelines(console: Console, found: PipelineForecast, track: TrackRecord | None) -> None:
    from rich.table import Table

    from saman.scaling.report.cells import format_interval, format_number

    table = Table(box=None, header_style="bold", pad_edge=False, title="pipelines", title_justify="left")
    table.add_column("series")
    for heading in ("stages × replicas", "micro-batches", "samples/s", "speed-up", "bubble", "measured"):
        table.add_column(heading, justify="right")
    for prediction in found.predictions:
        rate = format_interval(prediction.samples_per_second, prediction.low, prediction.high) + (
            " !" if prediction.caution else ""
        )
        shares = (
            format_number(prediction.speedup),
            format_number(prediction.bubble_share, True),
            format_number(prediction.measured),
        )
        table.add_row(
            prediction.series,
            f"{prediction.stages} × {prediction.replicas}",
            str(prediction.micro_batches),
            rate,
            *shares,
        )
    console.print(table, markup=False)
    bases = dict.fromkeys(f"baseline: {prediction.baseline}" for prediction in found.predictions if prediction.baseline)
    for text in (*bases, *found.assumes, found.intervals, *((track.sentence,) if track else ())):
        console.print(text, style="dim", markup=False)
    cautions = dict.fromkeys(
        f"! {each.ranks} ranks, {each.micro_batches} micro-batches: {each.caution}"
        for each in found.predictions
        if each.caution is not None
    )
    for text in (*cautions, *found.left_out):
        console.print(text, style="yellow", markup=False)


def _show_simulation(console: Console, curve: SimulatedCurve) -> None:
    from rich.table import Table

    from saman.scaling.report.cells import format_number

    simulation, goodput = curve.simulation, curve.goodput
    title = f"simulated: {simulation.label}"
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    headings = ["ranks", "nodes", "samples/s", "measured", "error", "efficiency", "exposed ms", "straggler ms"]
    for heading in [*headings, *(["time kept"] if goodput is not None else [])]:
        table.add_column(heading, justify="right")
    for number, point in enumerate(simulation.points):
        made = point.simulated
        error = "" if point.error is None else f"{point.error:+.1%}"
        waits = (f"{1e3 * made.exposed_seconds:.3g}", f"{1e3 * made.straggler_seconds:.3g}")
        head = (str(made.ranks), str(made.nodes), format_number(made.throughput))
        kept = [f"{goodput[number].useful:.1%}"] if goodput is not None else []
        table.add_row(*head, format_number(point.measured), error, format_number(made.efficiency, True), *waits, *kept)
    console.print()
    console.print(table)
    console.print(simulation.basis, style="dim")
