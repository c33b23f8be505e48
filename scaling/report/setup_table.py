"""The set-up of the experiment: what a reader must know to judge and to repeat the measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saman.scaling.analysis.run_values import MeasuredRun, RunFacts
from saman.scaling.report.cells import CellColumn, make_table
from saman.scaling.report.writer import CellKind, Table, TableKind

_MOST_VALUES = 6
TIMING = (
    "each rank's monotonic clock around windows of {steps} optimiser steps; a window lasts as long as on its slowest "
    "rank; windows in which a graph was traced and the warm-up do not count"
)


@dataclass(frozen=True)
class SetupRow:
    """A property of the set-up and its values over the runs, with the number of runs where they differ."""

    name: str
    value: str


def setup_rows(runs: Sequence[MeasuredRun]) -> list[SetupRow]:
    """A row per property, in the order of a methods section."""
    return [SetupRow(name, _values([text(run.facts) for run in runs])) for name, text in _PROPERTIES] if runs else []


def setup_table(runs: Sequence[MeasuredRun]) -> Table:
    """The set-up on the page."""
    columns: list[CellColumn[SetupRow]] = [
        CellColumn("property", lambda row: row.name, CellKind.TEXT),
        CellColumn("value", lambda row: row.value, CellKind.LONG_TEXT),
    ]
    note = "Of the runs that count; in parentheses the number of runs where they differ."
    return make_table(TableKind.SETUP, note, columns, setup_rows(runs))


def _values(values: Sequence[str]) -> str:
    counted = Counter(values).most_common()
    if len(counted) == 1:
        return counted[0][0]
    shown = "; ".join(f"{value} ({count})" for value, count in counted[:_MOST_VALUES])
    more = len(counted) - _MOST_VALUES
    return shown + (f"; and {more} more" if more > 0 else "")


def _scaling(facts: RunFacts) -> str:
    if facts.scaling == "weak":
        return "weak: fixed batch per rank"
    return "strong: fixed global batch"


def _batch(facts: RunFacts) -> str:
    return f"{facts.batch_per_rank} per rank" if facts.batch_per_rank else f"{facts.global_batch} over all ranks"


def _setting(key: str, default: str = "not recorded") -> Callable[[RunFacts], str]:
    return lambda facts: str(facts.settings.get(key, default))


def _model(facts: RunFacts) -> str:
    arguments = [f"{key.removeprefix('model.args.')}={value}" for key, value in facts.settings.items()
                 if key.startswith("model.args.")]  # fmt: skip
    return f"{facts.settings.get('model.build', 'not recorded')}({', '.join(arguments)})"


def _optimizer(facts: RunFacts) -> str:
    name = facts.settings.get("train.optimizer.name")
    rate = facts.settings.get("train.learning_rate.base")
    return "not recorded" if name is None else f"{name}, learning rate {rate}"


def _places(facts: RunFacts) -> str:
    cores = f", {facts.cores_per_rank} cores per rank" if facts.cores_per_rank else ""
    shared = ", ranks share cores" if facts.cores_shared else ""
    return f"{facts.ranks} on {facts.nodes} node{'s' if facts.nodes > 1 else ''}{cores}{shared}"


def _exchange(facts: RunFacts) -> str:
    steps = facts.settings.get("train.calibrate_exchange")
    return f"{steps} calibration steps before training" if steps else "as each run recorded it"


_PROPERTIES: tuple[tuple[str, Callable[[RunFacts], str]], ...] = (
    ("scaling", _scaling),
    ("batch", _batch),
    ("model", _model),
    ("data", _setting("data.source")),
    ("strategy", lambda facts: facts.strategy),
    ("optimiser", _optimizer),
    ("precision", _setting("train.precision")),
    ("seed", lambda facts: "not recorded" if facts.seed is None else str(facts.seed)),
    ("epochs", _setting("train.epochs")),
    ("ranks", _places),
    ("hardware", lambda facts: facts.hardware),
    ("software", lambda facts: facts.software),
    ("network", lambda facts: facts.network),
    ("timing", lambda facts: TIMING.format(steps=facts.settings.get("train.telemetry_window_steps", "a number of"))),
    ("exchange", _exchange),
)
