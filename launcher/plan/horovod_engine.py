"""The environment variables of Horovod's engine, from ``launch.horovod``. Pure."""

from __future__ import annotations

from pathlib import Path

from saman.configs.schemas.launch.exchange import HorovodEngine
from saman.configs.units import parse_size


def engine_variables(engine: HorovodEngine, timeline: Path, autotune_log: Path) -> dict[str, str]:
    """The variables to set in every rank; only what the user chose, so that Horovod's defaults stay.

    The variables: https://horovod.readthedocs.io/en/stable/tensor-fusion.html, timeline.html, autotune.html.

    Args:
        engine: the user's choices.
        timeline: the file for the trace.
        autotune_log: the file for the points that the search tried.

    >>> engine_variables(HorovodEngine(cycle_time_ms=0.5), Path("t"), Path("a"))
    {'HOROVOD_CYCLE_TIME': '0.5'}
    """
    found = {}
    if engine.fusion_threshold is not None:
        found["HOROVOD_FUSION_THRESHOLD"] = str(parse_size(engine.fusion_threshold))
    if engine.cycle_time_ms is not None:
        found["HOROVOD_CYCLE_TIME"] = f"{engine.cycle_time_ms:g}"
    if engine.hierarchical_allreduce:
        found["HOROVOD_HIERARCHICAL_ALLREDUCE"] = "1"
    if engine.timeline:
        found["HOROVOD_TIMELINE"] = str(timeline)
    if engine.autotune:
        found |= {"HOROVOD_AUTOTUNE": "1", "HOROVOD_AUTOTUNE_LOG": str(autotune_log)}
    return found
