"""``saman partition``: the split of a model into pipeline stages, without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.cli.options import Json, Ranks, Words

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.pipeline.choose import PipelineSplit
    from saman.pipeline.profile import Profile


def partition(
    words: Words = None,
    stages: Annotated[int | None, typer.Option("--stages", metavar="N", help="Number of stages.")] = None,
    ranks: Ranks = None,
    again: Annotated[bool, typer.Option("--again", help="Measure the layers again.")] = False,
    as_json: Json = False,
) -> None:
    """Show the split of an experiment's model into stages, with the expected times, bubble, memory and speed-up.

    The first call measures the layers in a separate process; later calls reuse the measurement.

    Examples:

        saman partition my.yaml --stages 4 train.micro_batches=8

        saman partition my.yaml train.pipeline.memory_limit=512M
    """
    from rich.console import Console

    from saman.pipeline.choose import split
    from saman.pipeline.profile_cache import load_or_measure

    experiment, code_path = _loaded(words or [], stages, ranks)
    with Console(stderr=True).status("measuring the layers"):
        profile = load_or_measure(experiment, code_path, _threads(experiment), again)
    found = split(experiment, profile)
    if as_json:
        typer.echo(json.dumps(as_plain(experiment, profile, found), indent=2))
    else:
        typer.echo("\n".join(lines(experiment, profile, found)))


def _loaded(words: list[str], stages: int | None, ranks: int | None) -> tuple[Experiment, tuple[Path, ...]]:
    """Load the experiment as a pipeline, with 1 replica unless ``-np`` or the experiment gives more."""
    from saman.configs import yaml12
    from saman.configs.errors import UserError
    from saman.configs.loading.experiments import load_experiment
    from saman.configs.loading.files import find, overridden

    if not words:
        raise UserError("missing experiment", remedy="saman partition EXPERIMENT [key=value ...]")
    name, *overrides = words
    values = overridden(yaml12.read(find("experiments", name)), overrides)
    train = values.get("train") if isinstance(values, dict) else None
    train = train if isinstance(train, dict) else {}
    already = train.get("strategy") == "pipeline"
    asked = stages or (train.get("pipeline") or {}).get("stages", 2)
    more = [f"train.pipeline.stages={asked}"] + ([] if already else ["train.strategy=pipeline"])
    if not already and ranks is None:
        more += ["resources.nodes=1", f"resources.ranks_per_node={asked}"]
    loaded = load_experiment(name, [*overrides, *more], ranks)
    return loaded.experiment, loaded.code_path


def _threads(experiment: Experiment) -> int:
    """Threads of a rank."""
    from saman.launcher.node.machine import allowed_cores

    asked = experiment.resources.cpus_per_rank
    return asked if asked != "auto" else max(1, len(allowed_cores()) // experiment.resources.ranks_per_node)


def lines(experiment: Experiment, profile: Profile, found: PipelineSplit) -> list[str]:
    """The split as a table, and its expected performance in sentences."""
    from saman.pipeline.partition import format_bytes

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
    """The split as plain values."""
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
