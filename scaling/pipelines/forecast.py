"""Forecasts pipelines that were not run: other replicas, micro-batches and, with profiled layers, other stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log2
from typing import Annotated

from saman.scaling.analysis.curves import Curve, point_beyond
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.pipelines.cases import Case, cases_of
from saman.scaling.pipelines.cross_check import (
    FEWEST_CELLS,
    LARGEST_MISFIT,
    CrossCheck,
    half_width,
    leave_one_cell_out,
)
from saman.scaling.pipelines.measured import MeasuredPipeline, PipelineShape
from saman.scaling.pipelines.published_check import calibrate_pipelines
from saman.scaling.pipelines.step_model import StepModel, fit_case, misfit
from saman.scaling.statistics.columns import ColumnName

NOMINAL = 0.9
_MOST_MICRO_BATCHES = 8.0  # the published rows reach from 4 to 32
_MOST_TIMES = 4.0  # the most replicas measured, beyond which a forecast carries a caution


@dataclass(frozen=True)
class Unavailable:
    """Why a forecast cannot be made."""

    reason: str


# The share of a model's work in each of so many stages.
StageShares = Callable[[Sequence[MeasuredRun], int], "tuple[float, ...] | Unavailable"]


@dataclass(frozen=True)
class PipelineThroughput:
    """The forecast of a pipeline; rates in samples per second.

    Attributes:
        measured: The measured rate where this pipeline was run.
        error: Forecast ÷ measured − 1.
        caution: Why not to rely on it.
        case: The key of its case: what the pipelines share that a forecast rests on.
    """

    series: str
    stages: int
    replicas: int
    ranks: int
    nodes: int
    micro_batches: int
    step_seconds: float
    samples_per_second: float
    low: float
    high: float
    speedup: float | None
    baseline: Annotated[str | None, ColumnName("base")]
    bubble_share: float
    exchange_seconds: float
    node_hours_per_epoch: float | None
    measured: float | None
    error: float | None
    caution: str | None
    imbalance_seconds: float
    transfer_seconds: float
    case: str


@dataclass(frozen=True)
class PipelineForecast:
    """Forecasts with their assumptions, the requests that cannot be met, and the origin of the intervals, in words."""

    predictions: tuple[PipelineThroughput, ...]
    assumes: tuple[str, ...]
    left_out: tuple[str, ...]
    intervals: str


def forecast(
    curves: Sequence[Curve],
    ranks: Sequence[int] | None = None,
    micro_batches: Sequence[int] | None = None,
    stages: Sequence[int] | None = None,
    shares: StageShares | None = None,
    widening: float = 1.0,
) -> PipelineForecast:
    """Forecast every case of pipelines among curves.

    Args:
        curves: Measured curves; other strategies than pipelines are ignored.
        ranks: Rank counts; by default with twice and four times the most replicas.
        micro_batches: Per replica and step; by default the measured numbers.
        stages: Numbers of stages; by default the measured numbers.
        shares: Splits a model into numbers of stages that were not measured; without it these are unavailable.
        widening: Factor on the width of intervals, from the track record of the machine.
    """
    predictions: list[PipelineThroughput] = []
    assumes: list[str] = []
    left_out: list[str] = []
    for case in cases_of(curves):
        checked = _checked(case)
        if isinstance(checked, Unavailable):
            left_out.append(f"{case.label}: {checked.reason}")
            continue
        assumes += [f"{case.label}: {text}" for text in _assumptions(checked)]
        for count in stages or case.stages:
            name = f"{case.label}, {count} stages"
            model = _with_stages(case, checked.model, count, shares)
            if isinstance(model, Unavailable):
                left_out.append(f"{name}: {model.reason}")
                continue
            if count not in case.stages:
                assumes.append(f"{name}: the shares of the layers are from the profile")
            for found in _predictions(case, CheckedModel(model, checked.check), count, ranks, micro_batches):
                if isinstance(found, Unavailable):
                    left_out.append(f"{name}: {found.reason}")
                else:
                    predictions.append(_widened(found, widening))
    return PipelineForecast(
        predictions=tuple(predictions),
        assumes=tuple(dict.fromkeys(assumes)),
        left_out=tuple(dict.fromkeys(left_out)),
        intervals=_intervals_in_words() if predictions else "",
    )


def _widened(found: PipelineThroughput, widening: float) -> PipelineThroughput:
    rate = found.samples_per_second
    return replace(found, low=rate * (found.low / rate) ** widening, high=rate * (found.high / rate) ** widening)


def _intervals_in_words() -> str:
    return (
        f"intervals: {NOMINAL:.0%}, from predicting each measured cell from the others; beyond the measured stages and "
        f"micro-batches also from {calibrate_pipelines().errors} published predictions of pipelines"
    )


@dataclass(frozen=True)
class CheckedModel:
    """A fitted model with its errors at cells that were left out."""

    model: StepModel
    check: CrossCheck


def _checked(case: Case) -> CheckedModel | Unavailable:
    """The model of a case; refused where it cannot be checked, or does not describe the runs."""
    settings = case.points[0].point.runs[0].facts.settings
    order = str(settings.get("train.pipeline.order") or "1f1b")
    recompute = settings.get("train.pipeline.recompute") is True
    cells = case.cells
    if any(cell.work_seconds is None for cell in cells):
        return Unavailable(
            "ranks shared cores, and these runs did not record CPU seconds per stage: wall time does not tell their "
            "work; run them again"
        )
    if len(cells) < FEWEST_CELLS:
        return Unavailable(
            f"{len(cells)} measured cell{'s' if len(cells) > 1 else ''}; a forecast is checked by leaving a cell out, "
            f"which needs {FEWEST_CELLS}"
        )
    model = fit_case(cells, order, recompute)
    check = leave_one_cell_out(cells, order, recompute)
    worst = max(exp(misfit(model)) - 1, exp(check.median) - 1)
    if worst > LARGEST_MISFIT:
        return Unavailable(
            f"the model misses its own cells by up to {exp(misfit(model)) - 1:.0%} and cells left out by "
            f"{exp(check.median) - 1:.0%} (median); beyond {LARGEST_MISFIT:.0%} it does not describe these runs"
            + _disturbances(cells)
        )
    return CheckedModel(model, check)


def _disturbances(cells: Sequence[MeasuredPipeline]) -> str:
    """The cells beside which other programs ran, in words: a model of the pipelines cannot describe these."""
    named = [
        f"{cell.shape.stages} × {cell.shape.replicas} with {cell.shape.micro_batches} micro-batches "
        f"({cell.cores_at_work:.0%})"
        for cell in cells
        if cell.disturbed
    ]
    if not named:
        return ""
    return f"; other programs used the cores of these cells, whose ranks had a part of them: {', '.join(named)}"


def _with_stages(case: Case, model: StepModel, stages: int, shares: StageShares | None) -> StepModel | Unavailable:
    """The model with the shares of a number of stages: measured shares, or split by ``shares``."""
    if stages in case.stages:
        return model
    runs = [run for entry in case.points for run in entry.point.runs[:1]]
    split = shares(runs, stages) if shares else Unavailable("this number of stages was not measured")
    return split if isinstance(split, Unavailable) else model.with_shares(split)


def _assumptions(checked: CheckedModel) -> Iterator[str]:
    model = checked.model
    yield (
        f"{len(model.cells)} cells; predicted from the others, half of them are off by up to "
        f"{exp(checked.check.median) - 1:.1%}; "
        f"forward is {model.forward_share:.0%} of both passes"
    )
    sizes = sorted({cell.batch / cell.shape.replicas / cell.shape.micro_batches for cell in model.cells})
    if len(sizes) == 1:
        yield f"time goes with examples; only micro-batches of {sizes[0]:.3g} examples were measured"
    if not _sums_gradients(model):
        yield "no run had several replicas; the gradient sum is assumed to cost nothing"


def _sums_gradients(model: StepModel) -> bool:
    return any(cell.shape.replicas > 1 for cell in model.cells)


def _predictions(
    case: Case, checked: CheckedModel, stages: int, ranks: Sequence[int] | None, micro_batches: Sequence[int] | None
) -> Iterator[PipelineThroughput | Unavailable]:
    cells = checked.model.cells
    alike = [cell for cell in cells if cell.shape.stages == stages] or cells
    most = max(cell.shape.replicas for cell in alike)
    wanted = ranks or [times * most * stages for times in (2, 4)]
    for count in micro_batches or sorted({cell.shape.micro_batches for cell in cells}):
        for total in wanted:
            if total % stages:
                yield Unavailable(f"{total} ranks are not a multiple of the stages")
                continue
            replicas, batch = total // stages, case.global_batch(total)
            if batch % (replicas * count):
                parts = f"{replicas} replicas × {count} micro-batches"
                yield Unavailable(f"a batch of {batch:g} does not split over {parts}")
                continue
            nodes = _nodes(case, total)
            shape = PipelineShape(stages, replicas, nodes, count, batch * checked.model.filled / replicas)
            yield _boundary(checked.model, shape) or _prediction(case, checked, shape, batch)


def _nodes(case: Case, ranks: int) -> int:
    measured = sorted(
        (ScalingPoint(entry.point.ranks, 0.0, entry.point.nodes) for entry in case.points),
        key=lambda point: (point.nodes, point.ranks),
    )
    return point_beyond(measured, ranks).nodes


def _boundary(model: StepModel, shape: PipelineShape) -> Unavailable | None:
    """The reason for refusing a pipeline behind a boundary that no cell crossed: ranks that share cores."""
    turns = model.cores.oversubscription(shape.ranks_per_node)
    if turns > 1 and all(cell.oversubscription <= 1 for cell in model.cells):
        return Unavailable(
            f"{shape.ranks_per_node} ranks per node × {model.cores.per_rank} cores would share {model.cores.count} "
            "cores; no measured cell shared cores"
        )
    return None


def _prediction(case: Case, checked: CheckedModel, shape: PipelineShape, batch: float) -> PipelineThroughput:
    model = checked.model
    step = model.predict(shape)
    rate = shape.examples * shape.replicas / step.seconds
    width = half_width(checked.check, model, shape, calibrate_pipelines(), NOMINAL)
    baseline = case.nearest_baseline(shape.micro_batches)
    epoch_seconds = case.points[0].point.runs[0].measured.epoch_seconds(rate)
    known = case.measured_throughput(shape.stages, shape.replicas, shape.micro_batches, batch)
    return PipelineThroughput(
        series=case.label,
        stages=shape.stages,
        replicas=shape.replicas,
        ranks=shape.ranks,
        nodes=shape.nodes,
        micro_batches=shape.micro_batches,
        step_seconds=step.seconds,
        samples_per_second=rate,
        low=rate * exp(-width),
        high=rate * exp(width),
        speedup=rate / baseline.throughput.value if baseline else None,
        baseline=baseline.label if baseline else None,
        bubble_share=step.bubble_share,
        exchange_seconds=step.exchange_seconds,
        node_hours_per_epoch=epoch_seconds * shape.nodes / 3600 if epoch_seconds else None,
        measured=known,
        error=rate / known - 1 if known else None,
        caution=_caution(model, shape),
        imbalance_seconds=step.imbalance_seconds,
        transfer_seconds=step.transfer_seconds,
        case=case.key,
    )


def _caution(model: StepModel, shape: PipelineShape) -> str | None:
    reasons = []
    most = max(cell.shape.replicas for cell in model.cells)
    if shape.replicas > _MOST_TIMES * most:
        reasons.append(f"{shape.replicas / most:.3g} times the most replicas measured ({most})")
    nearest = min(abs(log2(shape.micro_batches / cell.shape.micro_batches)) for cell in model.cells)
    if nearest > log2(_MOST_MICRO_BATCHES):
        reasons.append(f"micro-batches differ by more than {_MOST_MICRO_BATCHES:g}× from those measured")
    if len({cell.shape.micro_batches for cell in model.cells}) == 1 and nearest > 0:
        reasons.append("a single number of micro-batches was measured, so costs per pass are uncertain")
    smallest = min(cell.shape.size for cell in model.cells)
    if shape.size < smallest / 2:
        reasons.append(f"micro-batches of {shape.size:.3g} examples; the smallest measured has {smallest:.3g}")
    if shape.nodes > 1 and max(cell.shape.nodes for cell in model.cells) == 1:
        reasons.append("crosses a node boundary that was not measured")
    turns = model.cores.oversubscription(shape.ranks_per_node)
    if turns > 2 * max(cell.oversubscription for cell in model.cells):
        reasons.append(f"{turns:.3g} ranks share a core, more than twice as many as in any run")
    if shape.replicas > 1 and not _sums_gradients(model):
        reasons.append("the exchange between replicas was not measured")
    return "beyond the data: " + "; ".join(reasons) if reasons else None
