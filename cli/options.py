"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS, MODELS = Path("runs"), Path("models")

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")]
ModelsDir = Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[EXPERIMENT] [KEY=VALUE]...", help="A shipped experiment or a YAML file, then changes as KEY=VALUE."
    ),
]
ClusterName = Annotated[
    str | None,
    typer.Option(
        "--cluster", "-c", help="Cluster file: a shipped name, your own name, or a path. Default: your default cluster."
    ),
]
ClusterOrHere = Annotated[
    str | None,
    typer.Option("--cluster", "-c", help="Cluster file, or `default` for your default cluster. Default: this machine."),
]
Partition = Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest partition that fits.")]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", help="A node to avoid (repeatable).")]
Ranks = Annotated[int | None, typer.Option("-np", metavar="N", help="Number of ranks, as in horovodrun.")]
TotalRanks = Annotated[int | None, typer.Option("-np", "--np", help="Total number of ranks, over all nodes.")]
Nodes = Annotated[int | None, typer.Option("--nodes", "-N", help="Number of nodes, as resources.nodes=N.")]
TimeLimit = Annotated[
    str | None, typer.Option("--time", help="Time limit, as for sbatch: minutes, MM:SS, HH:MM:SS, D-HH:MM:SS.")
]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="Total number of GPUs; without -np, one rank per GPU.")]
ClusterChanges = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a key of the cluster file, for example account=x (repeatable)."),
]
LegacyKeras = Annotated[
    bool, typer.Option("--legacy-keras", help="Set TF_USE_LEGACY_KERAS, for a program that needs Keras 2.")
]
Metrics = Annotated[
    int | None,
    typer.Option(
        "--metrics", min=0, max=65535, metavar="PORT",
        help="Show Prometheus metrics on this port of 127.0.0.1, as launch.metrics.port=PORT; 0 takes a free port.",
    ),
]  # fmt: skip
AfterOk = Annotated[
    list[str] | None,
    typer.Option(
        "--after", "--after-ok", help="Start when this run, study, workflow or Slurm job has completed (repeatable)."
    ),
]
AfterAny = Annotated[
    list[str] | None,
    typer.Option("--after-any", help="Start when it has ended, whatever its result (repeatable)."),
]


def with_metrics(words: list[str] | None, port: int | None) -> list[str]:
    """Return the words of a command with ``--metrics`` as a change of the experiment."""
    return [*(words or []), *([] if port is None else [f"launch.metrics.port={port}"])]
