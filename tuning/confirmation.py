"""Trains the best trial again with several seeds, and publishes the best of these runs with its evidence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Condition
from saman.runs.events import find_last
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import VersionPublication
from saman.runs.tuning.evidence import SeedValue, TuningEvidence
from saman.tuning.campaign import Pace, node_hours
from saman.tuning.ends import EndKind, judge
from saman.tuning.measures import final_values
from saman.tuning.places.known_runs import KnownRuns
from saman.tuning.places.place import Seen
from saman.tuning.plan import TuningPlan
from saman.tuning.trials import Trial, outcomes

LEVEL = 0.95


@dataclass(frozen=True)
class Published:
    """The version of the best run, or why there is none."""

    model: str
    version: int | None = None
    path: Path | None = None  # unknown where an earlier call published
    run: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Confirmed:
    """The best trial with other seeds: its runs, and what was published."""

    seeds: tuple[SeedValue, ...]
    published: Published


class Confirming:
    """Runs the best trial with every seed, starts killed runs again, and publishes.

    Args:
        plan: The study.
        runs: Its runs.
        models_dir: The folder of models.
        say: Receives a sentence at the end of each run.
    """

    def __init__(
        self, plan: TuningPlan, runs: KnownRuns, models_dir: Path, say: Callable[[str], None] = lambda text: None
    ) -> None:
        assert plan.study.confirm is not None
        self._plan, self._runs, self._models_dir, self._say = plan, runs, models_dir, say
        self._seeds = plan.study.confirm.seed_list

    def run(self, best: Trial, trials: Sequence[Trial]) -> Confirmed:
        """Train, wait and publish. A second call finds what the first has done.

        Raises:
            UserError: A run does not fit the place.
        """
        specs = {seed: self._plan.with_seed(best.number, best.settings, seed) for seed in self._seeds}
        ended: dict[int, SeedValue] = {}
        pace = Pace()
        while len(ended) < len(specs):
            free = self._plan.study.concurrency - sum(
                self._runs.find(each.key) is not None and seed not in ended for seed, each in specs.items()
            )
            self._runs.start([each for each in specs.values() if self._runs.find(each.key) is None][: max(0, free)])
            before = len(ended)
            known = {seed: run for seed, each in specs.items() if (run := self._runs.find(each.key)) is not None}
            for (seed, run), seen in zip(known.items(), self._runs.look(list(known.values())), strict=True):
                if seed not in ended and (value := self._follow(seed, run, seen)) is not None:
                    ended[seed] = value
            if len(ended) < len(specs):
                pace.wait(len(ended) != before)
        values = tuple(ended[seed] for seed in self._seeds)
        return Confirmed(values, self._publish(best, trials, values))

    def _follow(self, seed: int, run: RunFolder, seen: Seen) -> SeedValue | None:
        """The end of a run, if it has one; a killed run starts again within the limit."""
        if seen.problem is not None:
            return self._ended(seed, run, None, seen.problem)
        if seen.idle:
            self._runs.restart(run)
            return None
        summary = run.summary() if seen.status.over else None
        ended = judge(seen.status, run.events(), summary.failure if summary else None)
        if seen.busy or ended.kind is EndKind.OPEN:
            return None
        if ended.kind is EndKind.COMPLETE:
            [value] = final_values(run, self._plan.study.objectives[:1])
            return self._ended(seed, run, value if value is not None and math.isfinite(value) else None)
        again = ended.kind in (EndKind.KILLED, EndKind.STOPPED)
        if again and len(run.attempts()) <= self._plan.study.retries.killed:
            self._say(f"seed {seed} starts again ({ended.kind.value}: {ended.detail})")
            self._runs.restart(run)
            return None
        return self._ended(seed, run, None, ended.detail)

    def _ended(self, seed: int, run: RunFolder, value: float | None, detail: str = "") -> SeedValue:
        objective = self._plan.study.objectives[0]
        shown = detail or "no finite value" if value is None else f"{objective.metric} {value:.4g}"
        self._say(f"seed {seed}: {shown}")
        return SeedValue(seed, run.id, value)

    def _publish(self, best: Trial, trials: Sequence[Trial], seeds: Sequence[SeedValue]) -> Published:
        from saman.registry.evaluation.gates import PublishRefusal
        from saman.registry.lifecycle.publish import publish

        model = str(self._plan.publishes)
        objective = self._plan.study.objectives[0]
        sign = -1.0 if objective.goal == "maximize" else 1.0
        found = [each for each in seeds if each.value is not None]
        chosen = min(found, key=lambda each: sign * (each.value or 0.0), default=None)
        if chosen is None:
            return Published(model, reason="no run with another seed completed")
        run = next(run for run in self._runs.all() if run.id == chosen.run)
        reason = unmet(self._plan.condition, run)
        if reason is not None:
            return Published(model, run=run.id, reason=reason)
        evidence_of(self._plan, best, trials, seeds, sum(map(node_hours, self._runs.all()))).write(run.tuning_file)
        why = f"best of {len(trials)} trials of {self._plan.study.name}, trained again with {len(seeds)} seeds"
        try:
            version = publish(run, self._models_dir, model=model, why=why)
        except PublishRefusal as refusal:
            return Published(model, run=run.id, reason=refusal.reason)
        except UserError as error:
            return Published(model, run=run.id, reason=str(error))
        return Published(version.model, version.number, version.path, run.id)


def read_confirmed(plan: TuningPlan, runs: KnownRuns, best: Trial) -> Confirmed | None:
    """The best trial with other seeds, if an earlier call published it; starts nothing."""
    if plan.study.confirm is None:
        return None
    for seed in plan.study.confirm.seed_list:
        run = runs.find(f"{best.number}/seed-{seed}")
        evidence = TuningEvidence.read(run.tuning_file) if run is not None else None
        version = find_last(VersionPublication.from_event, run.events()) if run is not None else None
        if run is not None and evidence is not None and version is not None:
            return Confirmed(evidence.seeds, Published(version.model, version.version, None, run.id))
    return None


def unmet(condition: Condition | None, run: RunFolder) -> str | None:
    """Why a confirmed trial misses the condition for a publication; ``None`` if it meets it."""
    if condition is None:
        return None
    summary = run.summary()
    value = summary.metrics.get(condition.metric) if summary else None
    number = float(value) if isinstance(value, (int, float)) else math.nan
    if condition.at_least is not None and not number >= condition.at_least:
        return f"{condition.metric} is {number:.4g}, but must be at least {condition.at_least:g}"
    if condition.at_most is not None and not number <= condition.at_most:
        return f"{condition.metric} is {number:.4g}, but must be at most {condition.at_most:g}"
    return None


def evidence_of(
    plan: TuningPlan, best: Trial, trials: Sequence[Trial], seeds: Sequence[SeedValue], hours: float
) -> TuningEvidence:
    """The evidence behind the best trial: how it was found, and its values with other seeds."""
    study = plan.study
    values = [each.value for each in seeds if each.value is not None]
    low, high = mean_interval(values)
    return TuningEvidence(
        study=study.name,
        trial=best.number,
        settings=dict(best.settings),
        objective=study.objectives[0].model_dump(mode="json"),
        value=best.values[0] if best.values else None,
        seeds=tuple(seeds),
        mean=statistics.fmean(values) if values else None,
        low=low,
        high=high,
        trials=outcomes(trials),
        searched={
            name: value
            for name, value in study.resolved().items()
            if name in ("experiment", "program", "set", "space", "sampler", "pruner", "seed", "objectives")
        },
        node_hours=hours,
    )


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean over the best trial's seeds, by Student's t; without two values it is unknown.

    >>> [round(end, 3) for end in mean_interval([0.90, 0.92, 0.94])]
    [0.87, 0.97]
    """
    if len(values) < 2:
        return None, None
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half
