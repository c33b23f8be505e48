"""``saman partition``: the split of a model into pipeline stages, without training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.cli.options import Json, Ranks, Words

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.pipeline.choose import PipelineSplit
    from saman.pipeline.profile import Profile


def partition_command(
    words: Words = None,
    stages: Annotated[int | None, typer.Option("--stages", metavar="N", help="Number of stages.")] = None,
    ranks: Ranks = None,
    again: Annotated[bool, typer.Option("--again", help="Measure the layers again.")] = False,
    as_json: Json = False,
) -> None:
    """Show how an experiment's model would be split into stages: expected times, bubble, memory and speed-up.

    The first call measures the layers in a separate process; later calls reuse the measurement.

    Examples:

        saman partition my.yaml --stages 4 train.micro_batches=8

        saman partition my.yaml train.pipeline.memory_limit=512M
    """
    from rich.console import Console

    from saman.configs.errors import UserError
    from saman.configs.loading.pipelines import load_as_pipeline
    from saman.launcher.node.machine import allowed_cores
    from saman.pipeline.choose import profile_and_split

    if not words:
        raise UserError("missing experiment", remedy="saman partition EXPERIMENT [key=value ...]")
    loaded = load_as_pipeline(words[0], words[1:], stages, ranks)
    with Console(stderr=True).status("measuring the layers"):
        found = profile_and_split(loaded.experiment, loaded.code_path, len(allowed_cores()), again)
    if as_json:
        typer.echo(json.dumps(as_plain(loaded.experiment, found.profile, found.split), indent=2))
    else:
        typer.echo("\n".join(text_lines(loaded.experiment, found.profile, found.split)))


def text_lines(experiment: Experiment, profile: Profile, found: PipelineSplit) -> list[str]:
    """The split as a table, and its expected performance in sentences."""
    from saman.configs.units import format_bytes

    prediction, layers = found.prediction, profile.chain.layers
    rows: list[tuple[str, ...]] = [("stage", "layers", "from", "forward", "backward", "receiving", "waiting", "memory")]
    for number, stage in enumerate(prediction.stages):
        rows.append(
            (
                str(number),
                str(stage.end - stage.begin),
                layers[stage.begin].name,
                *(_time(each) for each in (stage.forward_seconds, stage.backward_seconds, stage.transfer_seconds)),
                f"{stage.bubble_share:.0%}",
                format_bytes(stage.memory_bytes),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    limit = "" if found.limit_bytes is None else f" of {format_bytes(found.limit_bytes)} allowed"
    most = max(stage.memory_bytes for stage in prediction.stages)
    order = experiment.train.pipeline.order if experiment.train.pipeline else "1f1b"
    return [
        *table,
        "",
        f"times are for a micro-batch of {profile.examples} examples, of {prediction.micro_batches} in {order} order",
        f"a step takes {_time(prediction.step_seconds)}; the stages wait {prediction.bubble_share:.0%} of it",
        f"speed-up over one process, same micro-batches: {prediction.speedup:.2f} (bound {prediction.bound:.2f})",
        f"largest memory of a stage: {format_bytes(most)}{limit}, beside TensorFlow's own",
        f"cuts: [{', '.join(found.names)}]",
    ]


def as_plain(experiment: Experiment, profile: Profile, found: PipelineSplit) -> dict[str, Any]:
    """The JSON of ``saman partition``: the split as plain values."""
    prediction = found.prediction
    return {
        "cuts": list(found.names),
        "examples": profile.examples,
        "micro_batches": prediction.micro_batches,
        "stages": [
            {
                "first_layer": profile.chain.layers[stage.begin].name,
                "layers": stage.end - stage.begin,
                "forward_seconds": stage.forward_seconds,
                "backward_seconds": stage.backward_seconds,
                "transfer_seconds": stage.transfer_seconds,
                "bubble_share": stage.bubble_share,
                "memory_bytes": stage.memory_bytes,
            }
            for stage in prediction.stages
        ],
        "step_seconds": prediction.step_seconds,
        "speedup": prediction.speedup,
        "bound": prediction.bound,
        "replicas": experiment.replicas,
    }


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 1 else f"{seconds:.2f} s"
