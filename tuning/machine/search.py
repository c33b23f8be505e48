"""The search of ``saman autotune``: eight designed runs, a run of the best expected point, and a last look back."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.configs.loading.experiments import LoadedExperiment, load_experiment
from saman.launcher.local import run_locally
from saman.launcher.node.machine import Node, this_node
from saman.launcher.plan.place import place
from saman.launcher.planning import Options
from saman.launcher.supervision.progress import TrainingProgress
from saman.launcher.supervision.views import SilentView
from saman.runs.events import USER, EventKind, State
from saman.runs.find import find_runs
from saman.runs.records.run_events import StopCause
from saman.runs.telemetry.throughput import chief_throughput
from saman.runs.telemetry.window import read_windows
from saman.tuning.machine.design import MachineFactor, Point, changes_at, designed, factors_of
from saman.tuning.machine.effects import Effects, Measured, SpeedGain
from saman.tuning.space import overrides

MOST_RUNS = 10
# What a short run leaves out, and what would end it early.
_SHORT: dict[str, Any] = {
    "train.epochs": 1_000_000, "train.max_steps": None, "train.early_stop": None, "train.callbacks": [],
    "train.checkpoint": {"every_epochs": None}, "train.validate_every_epochs": 1_000_000,
    "train.validate_every_steps": None, "export": False, "publish": None, "tracking": None, "notify": None,
    "launch.restart": None,
}  # fmt: skip


@dataclass(frozen=True)
class MachineSearch:
    """What is searched: an experiment's factors on these nodes.

    Attributes:
        name: The experiment as the user named it.
        changes: ``KEY=VALUE`` from the command line.
        ranks: ``-np``.
        loaded: The experiment.
        factors: Its factors.
        nodes: The nodes of the Slurm allocation around this process; ``None`` for this machine.
    """

    name: str
    changes: tuple[str, ...]
    ranks: int | None
    loaded: LoadedExperiment
    factors: tuple[MachineFactor, ...]
    nodes: tuple[Node, ...] | None = None

    def at(self, point: Point) -> LoadedExperiment:
        """The experiment at a point, as a short run."""
        name = {"name": self.run_name}
        changes = overrides({**_SHORT, **changes_at(self.factors, point), **name})
        return load_experiment(self.name, [*self.changes, *changes], self.ranks)

    @property
    def run_name(self) -> str:
        """The name of its runs."""
        return f"{self.loaded.experiment.name}-autotune"


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: its runs in their order, the chosen point, and the gain of each level."""

    search: MachineSearch
    runs: tuple[Measured, ...]
    chosen: Point
    effects: Effects

    @property
    def gain(self) -> SpeedGain:
        """The gain of the chosen point over the experiment as it is."""
        return self.effects.gain(self.chosen)

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``saman autotune --json`` prints them."""
        factors = self.search.factors
        levels = [
            {"factor": factor.name, "level": level.name, "changes": dict(level.changes),
             "chosen": self.chosen[at] == number, **_plain(self.effects.gain_of(at, number))}
            for at, factor in enumerate(factors)
            for number, level in enumerate(factor.levels) if number
        ]  # fmt: skip
        runs = [
            {"settings": changes_at(factors, run.point), "samples_per_second": run.samples_per_second}
            for run in self.runs
        ]
        settings = changes_at(factors, self.chosen)
        return {"runs": runs, "levels": levels, "settings": settings, **_plain(self.gain)}


def _plain(gain: SpeedGain) -> dict[str, float | None]:
    return {"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high}


def prepare_search(
    name: str, changes: Sequence[str] = (), ranks: int | None = None, nodes: tuple[Node, ...] | None = None
) -> MachineSearch:
    """Load an experiment, and find what can be chosen for it; starts nothing.

    Raises:
        UserError: The experiment has mistakes, or does not fit the machine.
        EnvironmentLack: The machine has too little for its ranks.
    """
    loaded = load_experiment(name, changes, ranks)
    experiment = loaded.experiment
    if experiment.launch.elastic is not None:
        problem = "an elastic run changes its ranks while it is measured"
        raise UserError(problem, where="launch.elastic", remedy="saman autotune … launch.elastic=null")
    placement = place(experiment.resources, experiment.devices_per_process, nodes or (this_node(),))
    factors = factors_of(experiment, placement.cores_per_rank)
    return MachineSearch(name, tuple(changes), ranks, loaded, factors, nodes)


def search(
    wanted: MachineSearch,
    measure: Callable[[Point], float],
    say: Callable[[str], None] = lambda text: None,
    seed: int = 0,
) -> SearchResult:
    """Search in at most ten runs.

    Args:
        wanted: What is searched.
        measure: Makes a short run at a point; returns samples per second.
        say: Receives a sentence after each run.
        seed: Of the order of the runs, so that drift of the machine meets all levels alike.
    """
    counts = [len(factor.levels) for factor in wanted.factors]
    first, *rest = designed(wanted.factors)
    random.Random(seed).shuffle(rest)
    runs: list[Measured] = []

    def run(point: Point) -> None:
        runs.append(Measured(point, measure(point)))
        say(
            f"run {len(runs)}: {runs[-1].samples_per_second:,.4g} samples/s with {settings_text(wanted.factors, point)}"
        )

    for point in (first, *rest):
        run(point)
    run(Effects(counts, runs).expected_best())
    best = Effects(counts, runs).best_measured()
    run(first if any(best) else runs[-1].point)
    effects = Effects(counts, runs)
    return SearchResult(wanted, tuple(runs), effects.best_measured(), effects)


def settings_text(factors: Sequence[MachineFactor], point: Point) -> str:
    """The settings at a point in words."""
    changes = changes_at(factors, point)
    return ", ".join(f"{key}={value}" for key, value in changes.items()) or "the experiment as it is"


class _TimeBox(SilentView):
    """Ends a run after some seconds of training: the newest run of a name."""

    def __init__(self, runs_dir: Path, name: str, seconds: float) -> None:
        self._runs_dir, self._name, self._seconds = runs_dir, name, seconds
        self._first: tuple[float, int] | None = None
        self._asked = False

    def progress(self, progress: TrainingProgress) -> None:
        """Ask for the end when the time is over and some steps were measured."""
        if progress.samples_per_second is None or self._asked:
            return
        began, step = self._first = self._first or (time.monotonic(), progress.step)
        if time.monotonic() - began >= self._seconds and progress.step > step:
            find_runs(self._runs_dir, self._name)[-1].request_stop(StopCause.OTHER.value, USER)
            self._asked = True


def measure_run(wanted: MachineSearch, runs_dir: Path, seconds: float, point: Point) -> float:
    """Make a short run at a point; returns its samples per second, the median over its windows.

    Args:
        wanted: What is searched.
        runs_dir: Folder of the runs.
        seconds: Seconds of training to measure.
        point: The point.

    Raises:
        EnvironmentLack: The run failed.
        KeyboardInterrupt: The user stopped it.
    """
    options = Options(runs_dir=runs_dir, command_line=("saman", "autotune", wanted.name), nodes=wanted.nodes)
    outcome = run_locally(wanted.at(point), options, _TimeBox(runs_dir, wanted.run_name, seconds))
    if outcome.exit_code == ExitCode.INTERRUPTED or outcome.state is State.CANCELLED:
        raise KeyboardInterrupt
    found = chief_throughput(read_windows(outcome.run, 0)[0])
    if outcome.state is State.FAILED or found is None:
        raise EnvironmentLack(outcome.message, where=str(outcome.run.path), remedy="saman logs shows its output")
    if outcome.run.state is State.PREEMPTED:  # it is not to be continued
        outcome.run.append(EventKind.CANCELLED, USER, reason="measured by saman autotune")
    shutil.rmtree(outcome.run.checkpoints, ignore_errors=True)
    return found.median  # other work that came and went during the run is no cost of its settings
