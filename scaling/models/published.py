"""Reads tables of published throughput over ranks: the shipped table or a user's, each series with its source."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.scaling.models.forecast import ScalingSeries
from saman.scaling.models.laws import ScalingPoint

SHIPPED = Path(__file__).with_name("published.json")
# Ranks per node in the hardware line of a table: "8xK80/node", "4 nodes x 8 V100", "8 GPU/node".
_PER_NODE = (r"(\d+)\s*x\s*\w+/node", r"nodes\s*x\s*(\d+)", r"(\d+)\s*GPUs?/node")


def read_series(path: Path = SHIPPED) -> list[ScalingSeries]:
    """Read the data-parallel series of a table.

    Returns:
        The series, with points in the order of their counts.

    Raises:
        UserError: The file is missing or not such a table; the error names the series and the point.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="the path of a JSON table"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"is not JSON: {error}", where=str(path)) from None
    series = table.get("data_parallel") if isinstance(table, dict) else None
    if not isinstance(series, list):
        raise UserError(
            "the list data_parallel is missing", where=str(path), remedy="the layout of scaling/models/published.json"
        )
    return [_track(entry, f"{path}: data_parallel[{index}]") for index, entry in enumerate(series)]


def _track(entry: Any, where: str) -> ScalingSeries:
    try:
        name, source = str(entry["id"]), str(entry["source"])
        pairs = sorted((int(point["gpus"]), float(point["value"])) for point in entry["points"])
        per_node = entry.get("gpus_per_node") or ranks_per_node(str(entry.get("hardware", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"a series needs id, source, and points with gpus and value: {error!r}", where=where) from None
    for ranks, value in pairs:
        if ranks < 1 or not 0 < value < float("inf"):
            raise UserError(
                f"{value} at {ranks} GPUs is not a throughput", where=f"{where} ({name})", remedy="a positive number"
            )
    if len({ranks for ranks, _ in pairs}) < len(pairs):
        raise UserError("duplicate count", where=f"{where} ({name})", remedy="one point per count")
    points = tuple(ScalingPoint(ranks, value, -(-ranks // per_node) if per_node else 1) for ranks, value in pairs)
    return ScalingSeries(source, name, points)


def ranks_per_node(hardware: str) -> int | None:
    """Ranks per node according to a hardware line; None without such a figure."""
    for pattern in _PER_NODE:
        found = re.search(pattern, hardware)
        if found:
            return int(found[1])
    return None
