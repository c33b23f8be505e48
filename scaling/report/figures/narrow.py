"""Figures for narrow pages: the same marks on less width, with short labels and legends in a column."""

from __future__ import annotations

from os.path import commonprefix
from typing import Any

from saman.scaling.report.figures.vega import Spec

NARROW_WIDTH = 250  # of the plot, in pixels; with its axis it fits a page of 400
_LABEL_PIXELS = 132
_BAR_WIDTH = 154  # beside labels
_LEGEND_PIXELS = 240
_LEAST_CUT = 6  # letters; a shorter common start is no gain


def narrow(spec: Spec) -> Spec:
    """A specification for a page of 400 pixels; panels side by side are stacked."""
    found: Spec = _narrowed(spec, beside_labels=_has_row_labels(spec))
    for layer in (found, *found.get("layer", [])):
        _leave_out_the_common_start(layer, found)
    return found


def _leave_out_the_common_start(layer: Spec, whole: Spec) -> None:
    """Cut what all row labels begin with: there is room for about 22 letters, and labels must differ."""
    y = layer.get("encoding", {}).get("y", {})
    if y.get("type") != "nominal":
        return
    data = [part["data"]["values"] for part in (whole, *whole.get("layer", [])) if "data" in part]
    labels = {str(row[y["field"]]) for rows in data for row in rows if y["field"] in row}
    start = commonprefix(sorted(labels)) if len(labels) > 1 else ""
    cut = start.rfind(" ") + 1
    if cut >= _LEAST_CUT:
        y["axis"] = {**(y.get("axis") or {}), "labelExpr": f"'… ' + slice(datum.label, {cut})"}


def _has_row_labels(spec: Spec) -> bool:
    """Whether the y axis names places instead of numbers."""
    layers = [spec, *spec.get("layer", [])]
    channels = [layer.get("encoding", {}).get("y", {}) for layer in layers]
    return any(y.get("type") == "nominal" for y in channels)


def _narrowed(value: Any, beside_labels: bool) -> Any:
    if isinstance(value, list):
        return [_narrowed(item, beside_labels) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key, item in value.items():
        if key == "values":  # data stay as they are
            found[key] = item
        elif key == "hconcat":
            found["vconcat"] = _narrowed(item, beside_labels)
        elif key == "width" and isinstance(item, int | float):
            found[key] = min(item, _BAR_WIDTH if beside_labels else NARROW_WIDTH)
        elif key == "columns":
            found[key] = 1
        elif key == "labelLimit":
            found[key] = min(item, _LEGEND_PIXELS if "symbolLimit" in value else _LABEL_PIXELS)
        else:
            found[key] = _narrowed(item, beside_labels)
    return found
