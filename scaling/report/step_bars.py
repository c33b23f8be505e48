"""Stacked bars of what a step is made of: a bar per place, a colour per part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saman.scaling.report.vega import WIDTH, Spec
from saman.scaling.statistics.estimates import Rows


def step_bars(parts: Rows, colours: Mapping[str, str], told: Sequence[str] = ()) -> Spec:
    """Bars of ``parts``, each with a place, a part (a key of ``colours``), its order and its ``ms``.

    Parts of no time are left out. The tooltip also has the fields ``told``.
    """
    parts = [part for part in parts if part["ms"] > 0]
    names = [name for name in colours if any(part["part"] == name for part in parts)]
    order = list(dict.fromkeys(part["place"] for part in parts))
    return {
        "data": {"values": parts},
        "width": WIDTH - 180,
        "height": {"step": 18 if len(order) <= 30 else 11},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "title": None, "sort": order, "axis": {"labelLimit": 300}},
            "x": {"field": "ms", "type": "quantitative", "title": "milliseconds per step", "stack": True},
            "color": {
                "field": "part",
                "type": "nominal",
                "scale": {"domain": names, "range": [colours[name] for name in names]},
                "legend": {"orient": "top", "title": None, "columns": 3},
            },
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [*({"field": name} for name in ("place", *told, "part")), {"field": "ms", "format": ".4g"}],
        },
    }
