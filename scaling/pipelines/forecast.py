"""Forecasts pipelines that were not run: other replicas, micro-batches and, with profiled layers, other stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, hypot, log2, sqrt
from typing import Annotated

from saman.scaling.analysis.curves import Curve, point_beyond
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.forecast import NOMINAL, SUPPORTED_RATIO, Calibration, calibrate
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.models.published import read_series
from saman.scaling.pipelines.cases import Case, cases_of
from saman.scaling.pipelines.published_check import PipelineCalibration, calibrate_pipelines
from saman.scaling.pipelines.step_model import StageWork, StepModel, step_model
from saman.scaling.statistics.columns import ColumnName

_LEAST_DOUBLINGS = 0.25
_MOST_MICRO_BATCHES = 8.0  # the published rows reach from 4 to 32


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
) -> PipelineForecast:
    """Forecast every case of pipelines among curves.

    Args:
        curves: Measured curves; other strategies than pipelines are ignored.
        ranks: Rank counts; by default with twice and four times the most replicas.
        micro_batches: Per replica and step; by default the measured numbers.
        stages: Numbers of stages; by default the measured numbers.
        shares: Splits a model into numbers of stages that were not measured; without it these are unavailable.
    """
    predictions: list[PipelineThroughput] = []
    assumes: list[str] = []
    left_out: list[str] = []
    for case in cases_of(curves):
        for count in stages or case.stages:
            name = f"{case.label}, {count} stages"
            model = _model(case, count, shares)
            if isinstance(model, Unavailable):
                left_out.append(f"{name}: {model.reason}")
                continue
            assumes += [f"{name}: {text}" for text in _assumptions(case, model)]
            for found in _predictions(case, model, ranks, micro_batches):
                if isinstance(found, Unavailable):
                    left_out.append(f"{name}: {found.reason}")
                else:
                    predictions.append(found)
    return PipelineForecast(
        predictions=tuple(predictions),
        assumes=tuple(dict.fromkeys(assumes)),
        left_out=tuple(dict.fromkeys(left_out)),
        intervals=_intervals_in_words() if predictions else "",
    )


def _intervals_in_words() -> str:
    pipelines, _ = calibrations()
    published = f"{pipelines.errors} published predictions of pipelines"
    return f"intervals: {NOMINAL:.0%}, from {published}, those of data parallelism, and the misfit of these runs"


def _model(case: Case, stages: int, shares: StageShares | None) -> StepModel | Unavailable:
    """The step model of as many stages: of measured ones, or split by ``shares``."""
    settings = case.points[0].point.runs[0].facts.settings
    order = str(settings.get("train.pipeline.order") or "1f1b")
    recompute = settings.get("train.pipeline.recompute") is True
    nearest = min(case.stages, key=lambda count: abs(log2(stages / count)))
    others = [entry.measured for entry in case.points if entry.measured.stages != nearest]
    model = step_model(case.with_stages(nearest), order, recompute, others)
    assert model is not None  # a case has points of each of its stages
    if stages == nearest:
        return model
    runs = [run for entry in case.points for run in entry.point.runs[:1]]
    split = shares(runs, stages) if shares else Unavailable("this number of stages was not measured")
    return split if isinstance(split, Unavailable) else _split_otherwise(model, stages, split)


def _split_otherwise(model: StepModel, stages: int, shares: Sequence[float]) -> StepModel:
    """The model with another number of stages, each with its share of the work."""
    per_pass = sum(work.per_pass for work in model.work) / model.stages  # a pass costs each stage the same
    per_example = sum(work.per_example for work in model.work)  # work on examples goes with the layers
    work = tuple(StageWork(per_pass, per_example * share / sum(shares)) for share in shares)
    smaller = model.stages / stages  # the part of the gradients that a stage exchanges
    parameters = {name: value * smaller for name, value in model.exchange.parameters.items()}
    return replace(model, stages=stages, work=work, exchange=replace(model.exchange, parameters=parameters))


def _assumptions(case: Case, model: StepModel) -> Iterator[str]:
    count = len(model.points)
    off = f", points deviate by up to {exp(model.misfit) - 1:.1%}" if count > 1 else ""
    points = f"{count} measured point{'s' if count != 1 else ''}"
    yield (
        f"forward is {model.forward_share:.0%} of a stage's busy time; steps take {model.factor:.3g}× the model at "
        f"{points}{off}"
    )
    if len(model.sizes) == 1:
        yield f"time goes with examples; only micro-batches of {model.sizes[0]:.3g} examples were measured"
    if not model.exchange.known:
        yield "no run had several replicas; the gradient sum is assumed to cost nothing"
    if model.stages not in case.stages:
        yield f"the shares of the layers are from the profile, the rest from runs of {model.points[0].stages} stages"


def _predictions(
    case: Case, model: StepModel, ranks: Sequence[int] | None, micro_batches: Sequence[int] | None
) -> Iterator[PipelineThroughput | Unavailable]:
    most = max(point.replicas for point in model.points)
    wanted = ranks or [times * most * model.stages for times in (2, 4)]
    for count in micro_batches or sorted({point.micro_batches for point in model.points}):
        for total in wanted:
            if total % model.stages:
                yield Unavailable(f"{total} ranks are not a multiple of the stages")
                continue
            replicas, batch = total // model.stages, case.global_batch(total)
            if batch % (replicas * count):
                parts = f"{replicas} replicas × {count} micro-batches"
                yield Unavailable(f"a batch of {batch:g} does not split over {parts}")
                continue
            yield _prediction(case, model, total, count, batch)


def _prediction(case: Case, model: StepModel, ranks: int, micro_batches: int, batch: float) -> PipelineThroughput:
    replicas = ranks // model.stages
    measured = sorted(
        (ScalingPoint(entry.point.ranks, 0.0, entry.point.nodes) for entry in case.points),
        key=lambda point: (point.nodes, point.ranks),
    )
    nodes = point_beyond(measured, ranks).nodes
    examples = batch * model.filled
    per_replica = examples / replicas
    seconds = model.seconds(micro_batches, per_replica, replicas, nodes)
    rate = examples / seconds
    low, high = _interval(model, micro_batches, replicas)
    baseline = case.nearest_baseline(micro_batches)
    epoch_seconds = case.points[0].point.runs[0].measured.epoch_seconds(rate)
    known = case.measured_throughput(model.stages, replicas, micro_batches, batch)
    return PipelineThroughput(
        series=case.label,
        stages=model.stages,
        replicas=replicas,
        ranks=ranks,
        nodes=nodes,
        micro_batches=micro_batches,
        step_seconds=seconds,
        samples_per_second=rate,
        low=rate * exp(low),
        high=rate * exp(high),
        speedup=rate / baseline.throughput.value if baseline else None,
        baseline=baseline.label if baseline else None,
        bubble_share=model.bubble_share(micro_batches, per_replica, replicas, nodes),
        exchange_seconds=model.factor * model.exchange.seconds(replicas, nodes),
        node_hours_per_epoch=epoch_seconds * nodes / 3600 if epoch_seconds else None,
        measured=known,
        error=rate / known - 1 if known else None,
        caution=_caution(model, micro_batches, replicas, nodes, batch),
    )


def _interval(model: StepModel, micro_batches: int, replicas: int) -> tuple[float, float]:
    """Logarithms of the interval's bounds: errors on published tables per √doubling, plus the misfit of the points."""
    distances = [
        (abs(log2(micro_batches / point.micro_batches)), abs(log2(replicas / point.replicas))) for point in model.points
    ]
    passes, copies = min(distances, key=sum)
    stages = abs(log2(model.stages / model.points[0].stages))
    pipelines, curves = calibrations()
    own = [pipelines.micro_batches * sqrt(passes), pipelines.stages * sqrt(stages), model.misfit]
    across = sqrt(max(copies, _LEAST_DOUBLINGS))
    low, high = (curves.low, curves.high) if curves else (0.0, 0.0)
    return -hypot(*own, low * across), hypot(*own, high * across)


def calibrations() -> tuple[PipelineCalibration, Calibration | None]:
    """The basis of the intervals: published pipelines, and published data parallelism for the replicas."""
    return calibrate_pipelines(), calibrate(tuple(read_series()), NOMINAL)


def _caution(model: StepModel, micro_batches: int, replicas: int, nodes: int, batch: float) -> str | None:
    reasons = []
    most = max(point.replicas for point in model.points)
    if replicas > SUPPORTED_RATIO * most:
        reasons.append(f"{replicas / most:.3g} times the most replicas measured ({most})")
    nearest = min(abs(log2(micro_batches / point.micro_batches)) for point in model.points)
    if nearest > log2(_MOST_MICRO_BATCHES):
        reasons.append(f"micro-batches differ by more than {_MOST_MICRO_BATCHES:g}× from those measured")
    size, smallest = batch / replicas / micro_batches, min(model.sizes)
    if size < smallest / 2:
        reasons.append(f"micro-batches of {size:.3g} examples; the smallest measured has {smallest:.3g}")
    if nodes > 1 and max(point.nodes for point in model.points) == 1:
        reasons.append("crosses a node boundary that was not measured")
    if replicas > 1 and not model.exchange.known:
        reasons.append("the exchange between replicas was not measured")
    return "beyond the data: " + "; ".join(reasons) if reasons else None
