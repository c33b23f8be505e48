"""Groups runs into curves over ranks, and finds the curves that would mislead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saman.scaling.analysis.findings import Finding, FindingKind
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.laws import Scaling

_PIPELINE = "train.pipeline"
STAGES = "train.pipeline.stages"
_CORES = "cores"  # no setting of an experiment


@dataclass(frozen=True)
class RunGroup:
    """Runs of one curve: they differ only in ranks, nodes and repeats. ``points`` is keyed by (ranks, nodes)."""

    label: str
    settings: Mapping[str, Any]
    strategy: str
    scaling: Scaling
    points: Mapping[tuple[int, int], tuple[MeasuredRun, ...]]
    findings: tuple[Finding, ...]

    @property
    def is_drawable(self) -> bool:
        """Whether the group has points and no finding hides its curve."""
        return not any(finding.hides for finding in self.findings) and bool(self.points)

    @property
    def stages(self) -> int:
        """The stages of a pipeline; 1 for every other strategy."""
        return self.runs[0].facts.stage_count if self.runs else 1

    @property
    def cores_shared(self) -> bool:
        """Whether ranks took turns on cores. A curve has either only such runs or none."""
        return any(run.facts.cores_shared for run in self.runs)

    @property
    def runs(self) -> tuple[MeasuredRun, ...]:
        """The runs of all points."""
        return tuple(run for runs in self.points.values() for run in runs)

    @property
    def training_settings(self) -> dict[str, object]:
        """The settings without those that divide the work among ranks."""
        dividing = ("train.strategy", _PIPELINE)
        return {key: value for key, value in self.settings.items() if not key.startswith(dividing)}


def group_runs(runs: Sequence[MeasuredRun]) -> list[RunGroup]:
    """Group runs into curves.

    Runs with the same settings and kind of scaling share a curve. They are divided further by batch size where it is
    an axis of the study, by ranks per node where the same rank count ran on different numbers of nodes, and by whether
    ranks had cores of their own: behind that boundary time-slicing is measured, not scaling.

    Returns:
        The groups in the order of their labels.
    """
    by_settings: dict[tuple[Any, ...], list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        settings = tuple(sorted((key, str(value)) for key, value in run.facts.settings.items()))
        by_settings[settings, run.facts.scaling].append(run)
    parts = [part for alike in by_settings.values() for part in _split_by_layout(_split_by_batch(alike))]
    parts = [half for part in parts for half in _split_by_cores(part)]
    groups = [_group(label, part) for label, part in zip(_labels(parts), parts, strict=True)]
    return sorted(groups, key=lambda group: group.label)


def _split_by_batch(runs: list[MeasuredRun]) -> list[list[MeasuredRun]]:
    """Runs by batch size where it is an axis.

    Under strong scaling a batch size that only changes along the ranks is a mistake: such runs stay together, and a
    finding hides their curve.
    """
    weak = runs[0].facts.scaling == "weak"
    by_batch: dict[int, list[MeasuredRun]] = defaultdict(list)
    for run in runs:
        by_batch[(run.facts.batch_per_rank or 0) if weak else run.facts.global_batch].append(run)
    counts = [{run.facts.ranks for run in part} for part in by_batch.values()]
    is_axis = len(by_batch) > 1 and all(left & right for left in counts for right in counts)
    return list(by_batch.values()) if weak or is_axis else [runs]


def _split_by_layout(parts: Iterable[list[MeasuredRun]]) -> Iterable[list[MeasuredRun]]:
    """Runs by ranks per node where the same count ran on different numbers of nodes."""
    for part in parts:
        nodes: dict[int, set[int]] = defaultdict(set)
        for run in part:
            nodes[run.facts.ranks].add(run.facts.nodes)
        if all(len(found) == 1 for found in nodes.values()):
            yield part
            continue
        layouts: dict[int, list[MeasuredRun]] = defaultdict(list)
        for run in part:
            layouts[run.facts.ranks // run.facts.nodes].append(run)
        yield from layouts.values()


def _split_by_cores(runs: list[MeasuredRun]) -> list[list[MeasuredRun]]:
    """Runs whose ranks have cores of their own, and runs whose ranks share them."""
    halves = ([run for run in runs if run.facts.cores_shared is shared] for shared in (False, True))
    return [half for half in halves if half]


def _labels(parts: Sequence[list[MeasuredRun]]) -> list[str]:
    """A label per curve: the strategy, then every setting in which the curves differ."""
    described = [_description(part) for part in parts]
    keys = sorted({key for values in described for key in values})
    differing = [key for key in keys if _differs(key, described)]
    labels = []
    for values in described:
        named = [key for key in differing if key in values or not key.startswith(_PIPELINE)]
        words = [_setting_in_words(key, values.get(key)) for key in named if key != "train.strategy"]
        labels.append(" ".join([str(values["train.strategy"]), *words]))
    return labels


def _differs(key: str, described: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting differs among curves; a setting of pipelines among pipelines, except for their stages."""
    if key == _PIPELINE:
        return False  # null without a pipeline
    if key.startswith(_PIPELINE) and key != STAGES:
        described = [values for values in described if key in values]
    return len({str(values.get(key)) for values in described}) > 1


def _description(part: list[MeasuredRun]) -> dict[str, Any]:
    first = part[0].facts
    batch = {"batch per rank": first.batch_per_rank} if first.batch_per_rank else {"global batch": first.global_batch}
    layouts = {run.facts.ranks // run.facts.nodes for run in part}
    several_nodes = any(run.facts.nodes > 1 for run in part)
    layout = {"ranks per node": layouts.pop()} if len(layouts) == 1 and several_nodes else {}
    cores = {_CORES: "shared cores" if first.cores_shared else "own cores"}
    return {**first.settings, "train.strategy": first.strategy, **batch, **layout, **cores}


def _setting_in_words(key: str, value: Any) -> str:
    short = key.rpartition(".")[2].replace("_", " ")
    if key in ("model.build", "train.precision", _CORES):
        return str(value)
    return f"{short} {'–' if value is None else value}"


def _group(label: str, part: list[MeasuredRun]) -> RunGroup:
    points: dict[tuple[int, int], list[MeasuredRun]] = defaultdict(list)
    for run in sorted(part, key=lambda run: (run.facts.ranks, run.facts.nodes, run.facts.started)):
        points[run.facts.ranks, run.facts.nodes].append(run)
    first = part[0].facts
    return RunGroup(
        label=label,
        settings=first.settings,
        strategy=first.strategy,
        scaling=first.scaling,
        points={place: tuple(runs) for place, runs in points.items()},
        findings=tuple(_review_group(label, part)),
    )


def _review_group(label: str, runs: Sequence[MeasuredRun]) -> Iterable[Finding]:
    """Findings about differences that make a curve misleading; each hides it."""
    facts = [run.facts for run in runs]
    checks = [
        (FindingKind.MIXED_HARDWARE, "hardware", {run.hardware for run in facts}),
        (FindingKind.UNEQUAL_CORES, "cores per rank", {str(run.cores_per_rank) for run in facts}),
    ]
    if facts[0].scaling == "strong":
        batches = {str(run.global_batch) for run in facts}
        checks.append((FindingKind.UNEQUAL_BATCH, "global batch size under strong scaling", batches))
    for kind, quantity, values in checks:
        if len(values) > 1:
            text = f"{label}: runs differ in {quantity} ({'; '.join(sorted(values))}); the curve is not drawn"
            yield Finding(kind, text, hides=True)
