"""Loads an experiment as a pipeline, whatever strategy it trains with."""

from __future__ import annotations

from collections.abc import Sequence

from saman.configs.loading.experiments import LoadedExperiment, load_experiment
from saman.configs.loading.files import find, overridden
from saman.configs.loading.includes import read_with_included

_DEFAULT_STAGES = 2


def load_as_pipeline(
    name_or_path: str, overrides: Sequence[str] = (), stages: int | None = None, ranks: int | None = None
) -> LoadedExperiment:
    """Load an experiment as a pipeline, with 1 replica unless ``ranks`` or a pipeline experiment gives more.

    Args:
        name_or_path: A shipped experiment by name, or a file by path.
        overrides: Changes as ``key.path=value``.
        stages: Number of stages; by default that of the experiment, else 2.
        ranks: Number of ranks.

    Raises:
        UserError: The experiment has mistakes, or the ranks do not fit the stages.
    """
    values = overridden(read_with_included(find("experiments", name_or_path)), overrides)
    train = values.get("train") if isinstance(values, dict) else None
    train = train if isinstance(train, dict) else {}
    count = stages or (train.get("pipeline") or {}).get("stages", _DEFAULT_STAGES)
    more = [f"train.pipeline.stages={count}"]
    if train.get("strategy") != "pipeline":
        more.append("train.strategy=pipeline")
        if ranks is None:
            more += ["resources.nodes=1", f"resources.ranks_per_node={count}"]
    return load_experiment(name_or_path, [*overrides, *more], ranks)
