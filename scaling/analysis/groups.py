"""Groups runs into curves over ranks, and says which may not be drawn because they would mislead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saman.scaling.analysis.findings import Finding
from saman.scaling.analysis.results import Run
from saman.scaling.models.laws import Scaling

_OF_PIPELINES = "train.pipeline"
STAGES = "train.pipeline.stages"


@dataclass(frozen=True)
class Group:
    """Runs that differ only in ranks, nodes and repeats; ``points`` holds the usable ones by (ranks, nodes)."""

    label: str
    settings: Mapping[str, Any]
    strategy: str
    scaling: Scaling
    points: Mapping[tuple[int, int], tuple[Run, ...]]
    findings: tuple[Finding, ...]

    @property
    def drawn(self) -> bool:
        """Whether nothing forbids to draw the curve."""
        return not any(finding.hides for finding in self.findings) and bool(self.points)

    @property
    def stages(self) -> int:
        """The stages of a pipeline; 1 for every other strategy."""
        return self.runs[0].stage_count if self.runs else 1

    @property
    def runs(self) -> tuple[Run, ...]:
        """All usable runs."""
        return tuple(run for runs in self.points.values() for run in runs)


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Curves in the order of their labels; runs that do not count are not among them."""
    usable = [run for run in runs if run.usable]
    by_settings: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in usable:
        scaling: Scaling = "weak" if run.batch_per_rank else "strong"
        by_settings[(tuple(sorted((k, str(v)) for k, v in run.settings.items())), scaling)].append(run)
    parts = [part for runs in by_settings.values() for part in _by_layout(_by_batch(runs))]
    labels = _labels(parts)
    groups = [_group(label, part) for label, part in zip(labels, parts, strict=True)]
    return sorted(groups, key=lambda group: group.label)


def _by_batch(runs: list[Run]) -> list[list[Run]]:
    """Runs apart by batch where it is an axis; together where it only changes along the ranks, which is wrong."""
    weak = runs[0].batch_per_rank is not None
    apart: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        apart[(run.batch_per_rank or 0) if weak else run.global_batch].append(run)
    ranks = [{run.ranks for run in part} for part in apart.values()]
    is_axis = len(apart) > 1 and all(one & other for one in ranks for other in ranks)
    return list(apart.values()) if weak or is_axis else [runs]


def _by_layout(parts: Iterable[list[Run]]) -> Iterable[list[Run]]:
    """Runs apart by ranks per node where the same count was run on different numbers of nodes."""
    for part in parts:
        nodes: dict[int, set[int]] = defaultdict(set)
        for run in part:
            nodes[run.ranks].add(run.nodes)
        if all(len(found) == 1 for found in nodes.values()):
            yield part
            continue
        layouts: dict[int, list[Run]] = defaultdict(list)
        for run in part:
            layouts[run.ranks // run.nodes].append(run)
        yield from layouts.values()


def _labels(parts: Sequence[list[Run]]) -> list[str]:
    """What tells each curve from the others: the strategy, then every setting in which they differ."""
    described = [_described(part) for part in parts]
    keys = sorted({key for values in described for key in values})
    differing = [key for key in keys if _differs(key, described)]
    labels = []
    for values in described:
        mine = [key for key in differing if key in values or not key.startswith(_OF_PIPELINES)]
        shown = [_shown(key, values.get(key)) for key in mine if key != "train.strategy"]
        labels.append(" ".join([str(values["train.strategy"]), *shown]))
    return labels


def _differs(key: str, described: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a setting tells curves apart; one of pipelines is compared among pipelines, but for their stages."""
    if key == _OF_PIPELINES:
        return False  # null where nothing is split
    if key.startswith(_OF_PIPELINES) and key != STAGES:
        described = [values for values in described if key in values]
    return len({str(values.get(key)) for values in described}) > 1


def _described(part: list[Run]) -> dict[str, Any]:
    first = part[0]
    batch = {"batch per rank": first.batch_per_rank} if first.batch_per_rank else {"global batch": first.global_batch}
    layouts = {run.ranks // run.nodes for run in part}
    layout = {"ranks per node": layouts.pop()} if len(layouts) == 1 and any(run.nodes > 1 for run in part) else {}
    return {**first.settings, "train.strategy": first.strategy, **batch, **layout}


def _shown(key: str, value: Any) -> str:
    short = key.rpartition(".")[2].replace("_", " ")
    if key == "model.build" or key == "train.precision":
        return str(value)
    return f"{short} {'–' if value is None else value}"


def _group(label: str, part: list[Run]) -> Group:
    points: dict[tuple[int, int], list[Run]] = defaultdict(list)
    for run in sorted(part, key=lambda run: (run.ranks, run.nodes, run.started)):
        points[(run.ranks, run.nodes)].append(run)
    first = part[0]
    scaling: Scaling = "weak" if first.batch_per_rank else "strong"
    found = tuple(_misleading(label, part, scaling))
    kept = {key: tuple(runs) for key, runs in points.items()}
    return Group(label, first.settings, first.strategy, scaling, kept, found)


def _misleading(label: str, runs: Sequence[Run], scaling: Scaling) -> Iterable[Finding]:
    """Why the runs of one curve may not be compared along it."""
    checks = [
        ("mixed_hardware", "hardware", {run.hardware for run in runs}),
        ("unequal_cores", "cores per rank", {str(run.cores_per_rank) for run in runs}),
    ]
    if scaling == "strong":
        checks.append(("unequal_batch", "global batches under strong scaling", {str(run.global_batch) for run in runs}))
    for kind, what, values in checks:
        if len(values) > 1:
            text = f"{label}: its runs differ in {what} ({'; '.join(sorted(values))}); the curve is not drawn"
            yield Finding(kind, text, hides=True)
