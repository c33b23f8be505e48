"""Predicts pipelines that were not run: other replicas, micro-batches and, where the layers were profiled, stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, hypot, log2, sqrt

from saman.scaling.analysis.curves import Curve, beyond
from saman.scaling.analysis.results import Run
from saman.scaling.models.forecast import NOMINAL, SUPPORTED_RATIO, Calibration, calibrate
from saman.scaling.models.laws import ScalingPoint
from saman.scaling.models.published import read_tracks
from saman.scaling.pipelines.cases import Case, base_of, batch_of, cases_of, throughput_of
from saman.scaling.pipelines.published_check import PipelineCalibration, calibrate_pipelines
from saman.scaling.pipelines.step_model import StageWork, StepModel, step_model
from saman.scaling.statistics.estimates import Rows

_LEAST_DOUBLINGS = 0.25
_MOST_MICRO_BATCHES = 8.0  # the published rows reach from 4 to 32
# The share of a model's work that each of so many stages would have, or why it cannot be told.
Shares = Callable[[Sequence[Run], int], "tuple[float, ...] | str"]


@dataclass(frozen=True)
class PipelineThroughput:
    """A pipeline at asked ranks and micro-batches; rates in samples per second, ``measured`` where it was run."""

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
    base: str | None
    bubble_share: float
    exchange_seconds: float
    node_hours_per_epoch: float | None
    measured: float | None
    error: float | None
    caution: str | None


@dataclass(frozen=True)
class PipelineForecast:
    """Predictions, what they take for granted, and in sentences what was asked and cannot be."""

    predictions: tuple[PipelineThroughput, ...]
    assumes: tuple[str, ...]
    left_out: tuple[str, ...]
    intervals: str


def forecast_rows(found: PipelineForecast) -> Rows:
    """One row per prediction."""
    return [asdict(one) for one in found.predictions]


def forecast(
    curves: Sequence[Curve],
    ranks: Sequence[int] | None = None,
    micro_batches: Sequence[int] | None = None,
    stages: Sequence[int] | None = None,
    shares: Shares | None = None,
) -> PipelineForecast:
    """Every case of pipelines among ``curves`` at the asked counts; by default twice and four times the most replicas.

    ``shares`` splits the model into stages that were not measured; without it only measured numbers are predicted.
    """
    found: list[PipelineThroughput] = []
    assumes: list[str] = []
    left_out: list[str] = []
    for case in cases_of(curves):
        for count in stages or case.stages:
            model = _model(case, count, shares)
            if isinstance(model, str):
                left_out.append(f"{case.label}, {count} stages: {model}")
                continue
            assumes += [f"{case.label}, {count} stages: {text}" for text in _assumptions(case, model)]
            for one in _asked(case, model, ranks, micro_batches):
                if isinstance(one, str):
                    left_out.append(f"{case.label}, {count} stages: {one}")
                else:
                    found.append(one)
    pipelines, _ = calibrations() if found else (None, None)
    words = f"{pipelines.errors} published predictions of pipelines" if pipelines else ""
    intervals = f"intervals: {NOMINAL:.0%}, from {words}, those of data parallelism, and the misfit here"
    return PipelineForecast(
        tuple(found), tuple(dict.fromkeys(assumes)), tuple(dict.fromkeys(left_out)), intervals if words else ""
    )


def _model(case: Case, stages: int, shares: Shares | None) -> StepModel | str:
    """The model of so many stages, or why there is none."""
    run = case.points[0][1].runs[0]
    order = str(run.settings.get("train.pipeline.order") or "1f1b")
    recompute = run.settings.get("train.pipeline.recompute") is True
    nearest = min(case.stages, key=lambda one: abs(log2(stages / one)))
    others = [seen for _, _, seen in case.points if seen.stages != nearest]
    model = step_model([seen for _, _, seen in case.of(nearest)], order, recompute, others)
    assert model is not None  # a case has points of each of its stages
    if stages == nearest:
        return model
    runs = [one for _, point, _ in case.points for one in point.runs[:1]]
    told = shares(runs, stages) if shares else "this number of stages was not measured"
    if isinstance(told, str):
        return told
    total = StageWork(sum(one.per_pass for one in model.work), sum(one.per_example for one in model.work))
    # a pass costs each stage the same; the work on examples goes with the layers
    work = tuple(StageWork(total.per_pass / nearest, total.per_example * share / sum(told)) for share in told)
    smaller = nearest / stages  # the part of the gradients that a stage exchanges
    parameters = {name: value * smaller for name, value in model.exchange.parameters.items()}
    return replace(model, stages=stages, work=work, exchange=replace(model.exchange, parameters=parameters))


def _assumptions(case: Case, model: StepModel) -> Iterator[str]:
    forward = f"{model.forward_share:.0%} of a stage's busy time is forward"
    count = len(model.points)
    off = f", points lie up to {exp(model.misfit) - 1:.1%} off" if count > 1 else ""
    yield f"{forward}; steps are {model.factor:.3g} times the model at {count} measured points{off}"
    if len(model.sizes) == 1:
        yield f"a pass takes as long as its examples say; only micro-batches of {model.sizes[0]:.3g} were measured"
    if not model.exchange.known:
        yield "no run had several replicas: summing gradients is taken to cost nothing"
    if model.stages not in case.stages:
        yield f"the layers' shares are the profile's, all else is that of {model.points[0].stages} stages"


def _asked(
    case: Case, model: StepModel, ranks: Sequence[int] | None, micro_batches: Sequence[int] | None
) -> Iterator[PipelineThroughput | str]:
    most = max(point.replicas for point in model.points)
    wanted = ranks or [times * most * model.stages for times in (2, 4)]
    for count in micro_batches or sorted({point.micro_batches for point in model.points}):
        for total in wanted:
            if total % model.stages:
                yield f"{total} ranks hold no whole number of replicas"
                continue
            batch = batch_of(case, total)
            parts = total // model.stages * count
            if batch % parts:
                split = f"{total // model.stages} replicas × {count} micro-batches"
                yield f"a batch of {batch:g} does not split over {split}"
                continue
            yield _prediction(case, model, total, count, batch)


def _prediction(case: Case, model: StepModel, ranks: int, micro_batches: int, batch: float) -> PipelineThroughput:
    replicas = ranks // model.stages
    seen = sorted(
        (ScalingPoint(p.ranks, 0.0, p.nodes) for _, p, _ in case.points), key=lambda one: (one.nodes, one.ranks)
    )
    nodes = beyond(seen, ranks).nodes
    examples = batch * model.filled
    at = (micro_batches, examples / replicas, replicas, nodes)
    seconds = model.seconds(*at)
    rate = examples / seconds
    low, high = _interval(model, micro_batches, replicas)
    base_rate, base = base_of(case, micro_batches)
    epoch = case.points[0][1].runs[0].samples_per_epoch
    known = throughput_of(case, model.stages, replicas, micro_batches, batch)
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
        speedup=rate / base_rate if base_rate else None,
        base=base,
        bubble_share=model.bubble_share(*at),
        exchange_seconds=model.factor * model.exchange.seconds(replicas, nodes),
        node_hours_per_epoch=epoch / rate * nodes / 3600 if epoch else None,
        measured=known,
        error=rate / known - 1 if known else None,
        caution=_caution(model, micro_batches, replicas, nodes, batch),
    )


def _interval(model: StepModel, micro_batches: int, replicas: int) -> tuple[float, float]:
    """ln of the interval's edges: errors made on published tables per √doubling, and the points' own misfit."""
    away = [(abs(log2(micro_batches / p.micro_batches)), abs(log2(replicas / p.replicas))) for p in model.points]
    passes, copies = min(away, key=sum)
    between = abs(log2(model.stages / model.points[0].stages))
    pipelines, curves = calibrations()
    own = [pipelines.micro_batches * sqrt(passes), pipelines.stages * sqrt(between), model.misfit]
    across = sqrt(max(copies, _LEAST_DOUBLINGS))
    low, high = (curves.low, curves.high) if curves else (0.0, 0.0)
    return -hypot(*own, low * across), hypot(*own, high * across)


def calibrations() -> tuple[PipelineCalibration, Calibration | None]:
    """What intervals rest on: published pipelines, and published data parallelism for the replicas."""
    return calibrate_pipelines(), calibrate(tuple(read_tracks()), NOMINAL)


def _caution(model: StepModel, micro_batches: int, replicas: int, nodes: int, batch: float) -> str | None:
    reasons = []
    most = max(point.replicas for point in model.points)
    if replicas > SUPPORTED_RATIO * most:
        reasons.append(f"{replicas / most:.3g} times the most replicas measured ({most})")
    near = min(abs(log2(micro_batches / point.micro_batches)) for point in model.points)
    if near > log2(_MOST_MICRO_BATCHES):
        reasons.append(f"micro-batches are more than {_MOST_MICRO_BATCHES:g} times off those measured")
    size, smallest = batch / replicas / micro_batches, min(model.sizes)
    if size < smallest / 2:
        reasons.append(f"micro-batches of {size:.3g} examples, {smallest:.3g} was the smallest measured")
    if nodes > 1 and max(point.nodes for point in model.points) == 1:
        reasons.append("crosses a node boundary that was never measured")
    if replicas > 1 and not model.exchange.known:
        reasons.append("the exchange of replicas was never measured")
    return "beyond the data: " + "; ".join(reasons) if reasons else None
