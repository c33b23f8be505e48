"""Reads tables of published throughput over ranks: the shipped table or a user's, each series with its source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.scaling.models.hardware import ranks_per_node
from saman.scaling.models.laws import Scaling, ScalingPoint
from saman.scaling.models.series import ScalingSeries
from saman.scaling.models.units import UnitRefused, to_rate

SHIPPED = Path(__file__).with_name("published.json")
_DEFAULT_UNIT = "samples/s"


@dataclass(frozen=True)
class RefusedSeries:
    """A series that is left out, and the reason."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True)
class PublishedTable:
    """The series of a table, as rates, and those that are left out."""

    series: tuple[ScalingSeries, ...]
    refused: tuple[RefusedSeries, ...]


def read_series(path: Path = SHIPPED) -> list[ScalingSeries]:
    """Read the data-parallel series of a table that are rates or become rates.

    Returns:
        The series, with points in the order of their counts.

    Raises:
        UserError: As for ``read_table``.
    """
    return list(read_table(path).series)


def read_table(path: Path = SHIPPED) -> PublishedTable:
    """Read the data-parallel series of a table, and what was left out of it.

    A series needs ``id``, ``source`` and ``points`` with ``gpus`` and ``value``. ``unit`` is a rate unless it says
    otherwise; ``scaling`` is weak or strong (without it: strong with ``global_batch``, else weak); ``gpus_per_node``
    precedes what ``hardware`` describes.

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
    entries = table.get("data_parallel") if isinstance(table, dict) else None
    if not isinstance(entries, list):
        raise UserError(
            "the list data_parallel is missing", where=str(path), remedy="the layout of scaling/models/published.json"
        )
    found = [_track(entry, f"{path}: data_parallel[{index}]") for index, entry in enumerate(entries)]
    return PublishedTable(
        tuple(track for track in found if isinstance(track, ScalingSeries)),
        tuple(track for track in found if isinstance(track, RefusedSeries)),
    )


def _track(entry: Any, where: str) -> ScalingSeries | RefusedSeries:
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
    unit, scaling = str(entry.get("unit") or _DEFAULT_UNIT), _scaling(entry, f"{where} ({name})")
    try:
        rates = [(ranks, to_rate(unit, ranks, value, scaling)) for ranks, value in pairs]
    except UnitRefused as error:
        return RefusedSeries(name, source, str(error))
    points = tuple(ScalingPoint(ranks, rate, -(-ranks // per_node) if per_node else 1) for ranks, rate in rates)
    return ScalingSeries(source, name, points, scaling, unit, nodes_known=bool(per_node))


def _scaling(entry: Any, where: str) -> Scaling:
    value = entry.get("scaling")
    if value is None:
        return "strong" if entry.get("global_batch") else "weak"
    if value == "strong":
        return "strong"
    if value == "weak":
        return "weak"
    raise UserError(f"{value!r} is no kind of scaling", where=f"{where}: scaling", remedy="weak or strong")
