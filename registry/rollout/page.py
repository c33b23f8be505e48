"""The page of a rollout: its decision, and the confidence sequence of every metric. A single file without scripts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.units import format_time
from saman.registry.rollout.records import RolloutFiles
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model
from saman.registry.store.rollouts import RolloutState

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 560.0, 230.0, 64.0, 34.0, 10.0


@dataclass(frozen=True)
class SequencePoint:
    """A metric after some requests; ``None`` where the value is not bounded yet."""

    requests: int
    estimate: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class MetricSequence:
    """The sequence of a metric over the requests of a rollout."""

    name: str
    margin: float
    points: tuple[SequencePoint, ...]


def render_page(folder: ModelFolder) -> str:
    """The page of the newest rollout of a model, as HTML.

    Raises:
        UserError: The model had no rollout, or its log is damaged.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    rollout = read_model(folder).rollout
    if rollout is None:
        remedy = f"saman rollout start {folder.name}:VERSION"
        raise UserError(f"{folder.name} had no rollout", remedy=remedy)
    history = RolloutFiles.of(folder, rollout).read_history()
    found = sequences(history)
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        model=folder.name,
        rollout=rollout,
        status=_status(rollout),
        started=format_time(rollout.started_at),
        ended=format_time(rollout.ended_at) if rollout.ended_at else "",
        reason=rollout.why or (str(history[-1].get("reason", "")) if history else "no request yet"),
        figures=[(sequence, Markup(draw(sequence))) for sequence in found],
        last=[(sequence, sequence.points[-1]) for sequence in found],
        show=_show,
    )


def _status(rollout: RolloutState) -> str:
    if rollout.outcome is not None:
        return rollout.outcome.value
    return "paused" if rollout.is_paused else "active"


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def sequences(history: Sequence[Mapping[str, Any]]) -> list[MetricSequence]:
    """The sequences of all metrics in a history; lines of another form are left out."""
    points: dict[str, list[SequencePoint]] = {}
    names: dict[str, tuple[str, float]] = {}
    for line in history:
        try:
            requests = int(sum(line["requests"]))
            for finding in line["findings"]:
                key = finding["metric"] if finding["metric"] == "shift" else finding["name"]
                values = [
                    None if finding[part] is None else float(finding[part]) for part in ("estimate", "lower", "upper")
                ]
                margin = float(finding["margin"])
                if not all(math.isfinite(value) for value in (margin, *values) if value is not None):
                    continue
                names[key] = (str(finding["name"]), margin)
                points.setdefault(key, []).append(SequencePoint(requests, *values))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    known = {key: tuple(p for p in some if p.estimate is not None) for key, some in points.items()}
    return [MetricSequence(*names[key], some) for key, some in known.items() if some]


def draw(sequence: MetricSequence) -> str:
    """An SVG: estimate, confidence sequence and margin over the requests (logarithmic)."""
    points, ticks_at = sequence.points, _ticks(*_range(sequence))
    low, high = ticks_at[0], ticks_at[-1]
    logs = [math.log(max(1, point.requests)) for point in points]
    if logs[0] == logs[-1]:  # a single look: its interval over the whole width
        points, logs = (points[-1], points[-1]), [0.0, 1.0]
    across = [LEFT + (log - logs[0]) / (logs[-1] - logs[0]) * (WIDTH - LEFT - 10) for log in logs]

    def y(value: float | None, unbounded: float) -> float:
        inside = min(high, max(low, unbounded if value is None else value))
        return TOP + (high - inside) / (high - low) * (HEIGHT - TOP - BOTTOM)

    placed = list(zip(across, points, strict=True))
    upper = [f"{x:.1f},{y(p.upper, high):.1f}" for x, p in placed]
    lower = [f"{x:.1f},{y(p.lower, low):.1f}" for x, p in reversed(placed)]
    middle = [f"{x:.1f},{y(p.estimate, low):.1f}" for x, p in placed]
    margin = y(sequence.margin, high)
    ticks = "".join(
        f'<text x="{LEFT - 6:.0f}" y="{y(value, low) + 4:.1f}" text-anchor="end">{value:g}</text>'
        f'<line class="grid" x1="{LEFT:.0f}" x2="{WIDTH - 10:.0f}" y1="{y(value, low):.1f}" y2="{y(value, low):.1f}"/>'
        for value in ticks_at
    )
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" aria-hidden="true" focusable="false">{ticks}'
        f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
        f'<polyline class="estimate" points="{" ".join(middle)}"/>'
        f'<line class="margin" x1="{LEFT:.0f}" x2="{WIDTH - 10:.0f}" y1="{margin:.1f}" y2="{margin:.1f}"/>'
        f'<text x="{LEFT:.0f}" y="{HEIGHT - 10:.0f}">{points[0].requests}</text>'
        f'<text x="{WIDTH - 10:.0f}" y="{HEIGHT - 10:.0f}" text-anchor="end">'
        f"{points[-1].requests} requests (log scale)</text>"
        "</svg>"
    )


def _range(sequence: MetricSequence) -> tuple[float, float]:
    """The values that the figure shows: the second half of the sequence, the margin, and 0 or 1 for no difference."""
    later = sequence.points[len(sequence.points) // 2 :]
    values = [
        value for p in later for value in (p.estimate, p.lower, p.upper) if value is not None and abs(value) < 1e6
    ]
    values += [sequence.margin, *([0.0] if sequence.margin < 1 else [1.0])]
    return min(values), max(values)


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round values that enclose a range.

    >>> _ticks(-0.0217, 0.0794), _ticks(1.0, 1.0)
    ([-0.05, 0.0, 0.05, 0.1], [0.5, 1.0, 1.5])
    """
    spread = (high - low) or 1.0
    unit = 10.0 ** math.floor(math.log10(spread / 2))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= spread / 2.5)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return [round(number * step, 12) for number in range(first, last + 1)]
