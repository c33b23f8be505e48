"""The figures of a tuning study: history, learning curves, importance, slices, parallel coordinates, Pareto front."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from saman.configs.schemas.tuning import Choice, Range, Tuning, TuningObjective
from saman.scaling.report.figures.vega import COLOURS, HEIGHT, LOG_MARK, WIDTH, Data, Figure, Spec
from saman.tuning.trials import Trial, TrialOutcome, counted, losses, pareto_front

_MOST_CURVES = 300  # trials with a learning curve or a line of their own
_SMALL = 230  # width of a panel
_BEST, _OTHER = COLOURS[1], COLOURS[0]
_SHADES = {"scheme": "viridis", "reverse": True}


def make_figures(
    study: Tuning, trials: Sequence[Trial], importances: Sequence[Mapping[str, float]]
) -> tuple[Figure, ...]:
    """Every figure with data, in the order of the page.

    Args:
        study: The study.
        trials: Its trials.
        importances: The importance of each key, by objective.
    """
    complete = [trial for trial in counted(trials) if trial.values is not None]
    found = [
        pareto(study, complete),
        history(study, complete),
        learning_curves(study, trials),
        importance(study, importances),
        parallel_coordinates(study, complete),
        slices(study, complete),
    ]
    return tuple(figure for figure in found if figure is not None)


def history(study: Tuning, complete: Sequence[Trial]) -> Figure | None:
    """The first objective of every trial, and the best so far."""
    if not complete:
        return None
    objective = study.objectives[0]
    points, best, lowest = [], [], math.inf
    for trial in complete:
        value = losses(trial, study.objectives)[0]
        lowest = min(lowest, value)
        points.append(_row(study, trial))
        best.append({"trial": trial.number, "best": -lowest if objective.goal == "maximize" else lowest})
    x = {"field": "trial", "type": "quantitative", "title": "trial", "axis": {"format": "d", "tickMinStep": 1}}
    y = _axis(objective, [point["value"] for point in points])
    layers = [
        {
            "data": {"values": best},
            "mark": {"type": "line", "interpolate": "step-after", "color": _BEST},
            "encoding": {"x": x, "y": {**y, "field": "best"}},
        },
        {
            "data": {"values": points},
            "mark": {"type": "point", "filled": True, "size": 36, "color": _OTHER},
            "encoding": {"x": x, "y": y, "tooltip": _tooltip(study)},
        },
    ]
    caption = f"Dots: {len(complete)} complete trials. Line: the best so far."
    return Figure("history", "History", caption, {"width": WIDTH, "height": HEIGHT, "layer": layers})


def learning_curves(study: Tuning, trials: Sequence[Trial]) -> Figure | None:
    """The first objective by epoch; pruned trials end where they were stopped."""
    drawn = [trial for trial in counted(trials) if trial.epochs][-_MOST_CURVES:]
    data: Data = [
        {"trial": trial.number, "epoch": epoch, "value": value, "outcome": _group(trial)}
        for trial in drawn
        for epoch, value in trial.epochs.items()
        if math.isfinite(value)
    ]
    if not data or len(study.objectives) > 1:
        return None
    colour = {
        "field": "outcome",
        "type": "nominal",
        "scale": {"domain": ["complete", "pruned", "other"], "range": [_BEST, _OTHER, "#888888"]},
        "legend": {"title": None, "orient": "top", "symbolOpacity": 1},
    }
    spec: Spec = {
        "data": {"values": data},
        "width": WIDTH,
        "height": HEIGHT,
        "mark": {"type": "line", "point": {"size": 14}, "strokeWidth": 1.2, "opacity": 0.55},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "axis": {"format": "d", "tickMinStep": 1}},
            "y": _axis(study.objectives[0], [point["value"] for point in data]),
            "color": colour,
            "detail": {"field": "trial", "type": "nominal"},
            "tooltip": [{"field": name} for name in ("trial", "epoch", "value", "outcome")],
        },
    }
    return Figure("curves", "Learning curves", f"{len(drawn)} trials; a pruned trial ends at a checkpoint.", spec)


def importance(study: Tuning, importances: Sequence[Mapping[str, float]]) -> Figure | None:
    """The importance of each key for each objective."""
    data: Data = [
        {"key": key, "importance": value, "objective": objective.metric}
        for objective, found in zip(study.objectives, importances, strict=True)
        for key, value in found.items()
    ]
    if not data:
        return None
    y = {"field": "key", "type": "nominal", "title": None, "sort": "-x", "axis": {"labelLimit": 240}}
    x = {"field": "importance", "type": "quantitative", "axis": {"format": ".0%", "tickCount": 5}}
    spec: Spec = {
        "data": {"values": data},
        "width": WIDTH - 160,
        "height": {"step": 26},
        "mark": {"type": "bar", "color": _OTHER},
        "encoding": {"y": y, "x": x, "tooltip": [{"field": name} for name in ("key", "objective", "importance")]},
    }
    if len(study.objectives) > 1:
        spec["encoding"] |= {
            "yOffset": {"field": "objective"},
            "color": {
                "field": "objective",
                "scale": {"range": list(COLOURS)},
                "legend": {"title": None, "orient": "top"},
            },
        }
    caption = (
        "PED-ANOVA (Watanabe et al., 2023): the share of each key in separating the best tenth of the complete trials "
        "from the others. A sampler that searches where it is good makes keys look less important than they are."
    )
    return Figure("importance", "Importance", caption, spec)


def slices(study: Tuning, complete: Sequence[Trial]) -> Figure | None:
    """The first objective over each key."""
    if not complete:
        return None
    rows = [_row(study, trial) for trial in complete]
    y = _axis(study.objectives[0], [row["value"] for row in rows])
    panels = [
        {
            "data": {"values": rows},
            "width": _SMALL,
            "height": 170,
            "mark": {"type": "point", "filled": True, "size": 36, "opacity": 0.8},
            "encoding": {
                "x": _key_axis(key, part, f"key{number}"),
                "y": y,
                "color": {"field": "trial", "type": "quantitative", "scale": _SHADES, "legend": None},
                "tooltip": _tooltip(study),
            },
        }
        for number, (key, part) in enumerate(study.space.items())
    ]
    caption = "Complete trials; darker dots are later ones."
    rows_of_panels = [{"hconcat": panels[at : at + 2]} for at in range(0, len(panels), 2)]
    return Figure("slices", "Slices", caption, {"vconcat": rows_of_panels})


def parallel_coordinates(study: Tuning, complete: Sequence[Trial]) -> Figure | None:
    """A line per complete trial over all keys, each on an axis of its own, and the first objective."""
    if len(complete) < 2:
        return None
    drawn = complete[-_MOST_CURVES:]
    objective = study.objectives[0]
    values = [trial.values[0] for trial in drawn if trial.values]
    order = sorted(range(len(drawn)), key=lambda index: losses(drawn[index], study.objectives)[0])
    rank = {drawn[index].number: place / max(1, len(drawn) - 1) for place, index in enumerate(order)}
    names = [*(_short(key) for key in study.space), objective.metric]
    data: Data = []
    for trial in drawn:
        shown = [(_short(key), _place(part, trial.settings.get(key)), trial.settings.get(key))
                 for key, part in study.space.items()]  # fmt: skip
        value = trial.values[0] if trial.values else math.nan
        spread = max(values) - min(values)
        shown.append((objective.metric, (value - min(values)) / spread if spread else 0.5, value))
        data += [
            {"trial": trial.number, "key": key, "place": place, "shown": _text(each), "worse": rank[trial.number]}
            for key, place, each in shown
        ]
    ends = [{"key": _short(key), "place": place, "shown": text} for key, part in study.space.items()
            for place, text in _ends(part)]  # fmt: skip
    ends += [{"key": objective.metric, "place": 0.0, "shown": _text(min(values))},
             {"key": objective.metric, "place": 1.0, "shown": _text(max(values))}]  # fmt: skip
    x = {"field": "key", "type": "nominal", "sort": names, "title": None, "scale": {"padding": 0.3},
         "axis": {"labelAngle": -18, "labelLimit": 190, "grid": True, "orient": "bottom"}}  # fmt: skip
    y = {"field": "place", "type": "quantitative", "axis": None, "scale": {"domain": [-0.04, 1.04]}}
    lines = {
        "data": {"values": data},
        "mark": {"type": "line", "strokeWidth": 1.4, "opacity": 0.7},
        "encoding": {
            "x": x,
            "y": y,
            "detail": {"field": "trial", "type": "nominal"},
            "color": {
                "field": "worse",
                "type": "quantitative",
                "legend": None,
                "scale": {"domain": [0, 0.25, 1], "range": [_BEST, "#7aa9c9", "#c9ced4"]},
            },  # fmt: skip
            "order": {"field": "key", "sort": names},
            "tooltip": [{"field": name} for name in ("trial", "key", "shown")],
        },
    }
    labels = {
        "data": {"values": ends},
        "mark": {"type": "text", "align": "left", "dx": 4, "fontSize": 10},
        "encoding": {"x": x, "y": y, "text": {"field": "shown"}},
    }
    caption = f"{len(drawn)} complete trials; the best are red. Axes of logarithmic keys are logarithmic."
    spec: Spec = {"width": WIDTH, "height": HEIGHT, "layer": [lines, labels]}
    return Figure("parallel", "Parallel coordinates", caption, spec)


def pareto(study: Tuning, complete: Sequence[Trial]) -> Figure | None:
    """The first two objectives of every trial, and the Pareto front of all objectives."""
    if len(study.objectives) < 2 or not complete:
        return None
    first, second = study.objectives[:2]
    front = {trial.number for trial in pareto_front(complete, study.objectives)}
    rows = [
        {**_row(study, trial), "second": (trial.values or (0, 0))[1], "front": trial.number in front}
        for trial in complete
    ]
    x = {**_axis(second, [row["second"] for row in rows]), "field": "second"}
    y = _axis(first, [row["value"] for row in rows])
    layers = [
        {
            "data": {"values": sorted((row for row in rows if row["front"]), key=lambda row: row["second"])},
            "mark": {"type": "line", "interpolate": "linear", "color": _BEST, "strokeWidth": 1.4},
            "encoding": {"x": x, "y": y, "order": {"field": "second"}},
        },
        {
            "data": {"values": rows},
            "mark": {"type": "point", "filled": True, "size": 55},
            "encoding": {
                "x": x,
                "y": y,
                "color": {"condition": {"test": "datum.front", "value": _BEST}, "value": _OTHER},
                "tooltip": [*_tooltip(study), {"field": "second", "title": second.metric}],
            },
        },
    ]
    caption = (
        f"Red: the {len(front)} of {len(complete)} trials that no other is at least as good as in every objective."
    )
    return Figure("pareto", "Pareto front", caption, {"width": WIDTH, "height": HEIGHT, "layer": layers})


def _row(study: Tuning, trial: Trial) -> dict[str, Any]:
    keys = {f"key{number}": _plain(trial.settings.get(key)) for number, key in enumerate(study.space)}
    return {"trial": trial.number, "value": (trial.values or (math.nan,))[0], **keys}


def _tooltip(study: Tuning) -> list[Spec]:
    keys = [{"field": f"key{number}", "title": key} for number, key in enumerate(study.space)]
    return [{"field": "trial"}, {"field": "value", "title": study.objectives[0].metric}, *keys]


def _axis(objective: TuningObjective, values: Sequence[object]) -> Spec:
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    wide = bool(numbers) and min(numbers) > 0 and max(numbers) > 50 * min(numbers)
    scale: Spec = {"type": "log"} if wide else {"zero": False}
    title = objective.metric + (LOG_MARK if wide else "")
    return {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": scale,
        "axis": {"labelOverlap": "greedy"},
    }


def _key_axis(key: str, part: Range | Choice, field: str) -> Spec:
    if isinstance(part, Choice):
        return {"field": field, "type": "nominal", "title": key, "axis": {"labelAngle": 0, "labelLimit": 90}}
    scale: Spec = {"type": "log"} if part.log else {"zero": False}
    scale["domain"] = [part.low, part.high]
    title = key + (LOG_MARK if part.log else "")
    axis = {"labelOverlap": "greedy", "tickCount": 5}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


def _place(part: Range | Choice, value: object) -> float:
    """The place of a value on its axis, from 0 to 1."""
    if isinstance(part, Choice):
        return part.choices.index(value) / max(1, len(part.choices) - 1) if value in part.choices else 0.0
    number = float(value) if isinstance(value, (int, float)) else part.low
    low, high = (math.log(part.low), math.log(part.high)) if part.log else (part.low, part.high)
    return ((math.log(number) if part.log else number) - low) / (high - low) if high > low else 0.5


def _ends(part: Range | Choice) -> list[tuple[float, str]]:
    if isinstance(part, Choice):
        return [(_place(part, value), _text(value)) for value in part.choices[:12]]
    return [(0.0, _text(part.low)), (1.0, _text(part.high))]


def _group(trial: Trial) -> str:
    return trial.outcome.value if trial.outcome in (TrialOutcome.COMPLETE, TrialOutcome.PRUNED) else "other"


def _short(key: str) -> str:
    return key if len(key) <= 24 else "…" + key[-23:]


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else _text(value)


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
