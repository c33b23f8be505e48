"""The schema of a tuning study: search space, objectives, sampler, pruner, budget, training of the best trial."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.problems import Problems, Strict
from saman.configs.schemas.experiment import Condition, Launch, Resources

SEED = "train.seed"
# Objectives that every run has, besides the metrics of its epochs.
MEASURES = ("samples_per_second", "seconds", "parameters")
MOST_GRID_POINTS = 100_000


class Range(Strict):
    """Numbers from ``low`` to ``high``, both included; whole numbers if ``low``, ``high`` and ``step`` are whole."""

    low: float | int
    high: float | int
    log: bool = False
    step: float | int | None = None

    @model_validator(mode="after")
    def _possible(self) -> Range:
        if not all(math.isfinite(value) for value in (self.low, self.high, self.step or 0)):
            raise ValueError("low, high and step must be finite")
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) is above high ({self.high:g})")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be positive")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        if self.log and self.step is not None:
            raise ValueError("give either log or step")
        return self

    @property
    def whole(self) -> bool:
        """Whether the range holds whole numbers."""
        given = (self.low, self.high, *(() if self.step is None else (self.step,)))
        return all(isinstance(value, int) for value in given)

    def grid(self) -> list[float | int] | None:
        """The values of a grid; ``None`` if the range is continuous."""
        if self.step is None and (self.log or not self.whole):
            return None
        step = 1 if self.step is None else self.step
        count = int(math.floor((self.high - self.low) / step + 1e-9)) + 1
        return [self.low + index * step for index in range(min(count, MOST_GRID_POINTS + 1))]


class Choice(Strict):
    """One of several values, of any type."""

    choices: list[Any] = Field(min_length=1)

    @field_validator("choices")
    @classmethod
    def _differ(cls, values: list[Any]) -> list[Any]:
        if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
            raise ValueError("duplicate value")
        return values

    def grid(self) -> list[Any]:
        """The values of a grid."""
        return list(self.choices)


def _kind_of_part(value: Any) -> str:
    """Tell a range from choices, so that a mistake in the range is not reported as missing choices."""
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "Choice" if "choices" in keys else "Range"


SpacePart = Annotated[Annotated[Range, Tag("Range")] | Annotated[Choice, Tag("Choice")], Discriminator(_kind_of_part)]


class TuningObjective(Strict):
    """A metric to minimise or maximise: of the epochs (``last`` or ``best``), or a measure of the run."""

    metric: str
    goal: Literal["minimize", "maximize"]
    of: Literal["last", "best"] = "last"

    @property
    def is_measure(self) -> bool:
        """Whether the objective is a measure of the whole run, known only at its end."""
        return self.metric in MEASURES


class RandomSearch(Strict):
    """``sampler: random``."""

    name: Literal["random"]


class GridSearch(Strict):
    """``sampler: grid``: every combination once, in a random order."""

    name: Literal["grid"]


class Tpe(Strict):
    """``sampler: tpe``: the tree-structured Parzen estimator (Bergstra et al., 2011), multivariate."""

    name: Literal["tpe"]
    startup_trials: NonNegativeInt = 10


class CmaEs(Strict):
    """``sampler: cma_es``: covariance matrix adaptation (Hansen, 2016); categorical keys are sampled at random."""

    name: Literal["cma_es"]
    startup_trials: PositiveInt = 1


class NoPruner(Strict):
    """``pruner: none``: every trial runs to its end."""

    name: Literal["none"]


class Asha(Strict):
    """``pruner: asha``: asynchronous successive halving (Li et al., 2020).

    A trial goes on from a rung if it is in the best 1/``reduction_factor`` of all trials that reached it and of the
    ``recent`` newest of them: a sampler that learns would else let nearly all of its late trials run to their end.
    """

    name: Literal["asha"]
    min_epochs: PositiveInt = 1
    reduction_factor: int = Field(4, ge=2)
    skip_rungs: NonNegativeInt = 0
    recent: PositiveInt | None = None  # default: 3 * reduction_factor

    @property
    def recent_trials(self) -> int:
        """The pruner's key ``recent``, or its default: the newest trials of a rung with which a trial is compared."""
        return self.recent or 3 * self.reduction_factor


class Median(Strict):
    """``pruner: median``: stops a trial that is worse than the median of the others at the same epoch."""

    name: Literal["median"]
    startup_trials: NonNegativeInt = 5
    warmup_epochs: NonNegativeInt = 0


class Hyperband(Strict):
    """``pruner: hyperband`` (Li et al., 2018): several brackets of successive halving."""

    name: Literal["hyperband"]
    min_epochs: PositiveInt = 1
    max_epochs: PositiveInt | None = None  # default: the epochs of the experiment
    reduction_factor: int = Field(3, ge=2)


Sampler = Annotated[RandomSearch | GridSearch | Tpe | CmaEs, Field(discriminator="name")]
Pruner = Annotated[NoPruner | Asha | Median | Hyperband, Field(discriminator="name")]


class Retries(Strict):
    """How often a trial is started again: after it was killed or lost its node, and after it failed by itself."""

    killed: NonNegativeInt = 3
    failed: NonNegativeInt = 0


class TrialProgram(Strict):
    """The user's own program as trial: ``{KEY}`` in an argument of the command is replaced by the trial's value."""

    command: list[str] = Field(min_length=1)
    directory: str | None = None  # default: the folder of the study's file
    epochs: PositiveInt | None = None  # that a whole trial reports, for Hyperband and for the page
    resources: Resources = Resources()
    launch: Launch = Field(default_factory=lambda: Launch.model_validate({}))


class Confirmation(Strict):
    """The training of the best trial with several seeds, and the publication of the best of these runs."""

    seeds: PositiveInt | list[NonNegativeInt] = 3
    changes: dict[str, Any] = Field({}, alias="set")
    publish: Name | None = None  # default: publish.model of the experiment
    condition: Condition | None = Field(None, alias="if")  # default: publish.if of the experiment

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: int | list[int]) -> int | list[int]:
        if isinstance(seeds, list) and (not seeds or len(set(seeds)) < len(seeds)):
            raise ValueError("give each seed once, and at least one")
        return seeds

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(1, self.seeds + 1)) if isinstance(self.seeds, int) else tuple(self.seeds)


class Tuning(Strict):
    """A tuning study, as ``saman tune`` takes it."""

    name: Name
    experiment: str | None = None
    program: TrialProgram | None = None
    changes: dict[str, Any] = Field({}, alias="set")
    space: dict[str, SpacePart] = Field(min_length=1)
    objectives: list[TuningObjective] = Field(min_length=1)
    sampler: Sampler = Tpe(name="tpe")
    pruner: Pruner = NoPruner(name="none")
    seed: NonNegativeInt = 0
    trials: PositiveInt | None = None
    node_hours: PositiveFloat | None = None
    concurrency: PositiveInt = 1
    retries: Retries = Retries()
    stop_seconds: PositiveFloat = 120.0  # for a pruned trial to end with a checkpoint
    exports: bool = False  # whether each trial exports its model
    storage: str | None = None  # a database; default: a journal beside the runs
    confirm: Confirmation | None = None

    @field_validator("space", mode="before")
    @classmethod
    def _lists_are_choices(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        return {key: {"choices": value} if isinstance(value, list) else value for key, value in space.items()}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        found = dict(values)
        for key in ("sampler", "pruner"):
            if isinstance(found.get(key), str):
                found[key] = {"name": found[key]}
        if "objective" in found and "objectives" not in found:
            found["objectives"] = [found.pop("objective")]
        return found

    @model_validator(mode="after")
    def _possible(self) -> Tuning:
        found = list(_mistakes(self))
        if found:
            raise Problems(found)
        return self

    @property
    def most_trials(self) -> int | None:
        """Trials of the study: all points of a grid by default; ``None`` if only the budget ends it."""
        size = self.grid_size if self.sampler.name == "grid" else None
        return size if self.trials is None else min(self.trials, size or self.trials)

    @property
    def grid_size(self) -> int:
        """Combinations of a grid."""
        return math.prod(len(part.grid() or ()) for part in self.space.values())

    def resolved(self) -> dict[str, Any]:
        """Plain values including defaults."""
        return self.model_dump(mode="json", by_alias=True)


def _mistakes(study: Tuning) -> Iterator[UserError]:
    if study.experiment is None and study.program is None:
        yield UserError("neither an experiment nor a program", where="experiment", remedy="the experiment to vary")
    if study.program is not None and study.experiment is None and study.confirm is not None:
        remedy = "experiment: …, which the best values of the program's trials change"
        yield UserError("only an experiment can be trained again and published", where="confirm", remedy=remedy)
    if study.experiment is not None:
        yield from _unknown_keys(study)
    if study.program is not None:
        yield from _unused_keys(study, study.program)
    for objective in study.objectives:
        if objective.metric.startswith("test_"):
            problem = "the test examples are for the final evaluation alone; tuning on them makes it worthless"
            remedy = f"val_{objective.metric.removeprefix('test_')}"
            yield UserError(problem, where="objectives", remedy=remedy)
    if len({objective.metric for objective in study.objectives}) < len(study.objectives):
        yield UserError("two objectives have the same metric", where="objectives")
    yield from _search_mistakes(study)


def _search_mistakes(study: Tuning) -> Iterator[UserError]:
    if study.pruner.name != "none" and len(study.objectives) > 1:
        yield UserError("trials with several objectives cannot be pruned", where="pruner", remedy="pruner: none")
    elif study.pruner.name != "none" and study.objectives[0].is_measure:
        problem = f"{study.objectives[0].metric} is known only at the end of a run"
        yield UserError(problem, where="pruner", remedy="pruner: none, or a metric of the epochs as objective")
    if study.sampler.name == "grid":
        for key, part in study.space.items():
            if part.grid() is None:
                remedy = "choices: […], or a step"
                yield UserError("a grid needs separate values", where=f"space.{key}", remedy=remedy)
        if study.grid_size > MOST_GRID_POINTS:
            yield UserError(f"the grid has more than {MOST_GRID_POINTS} points", where="space", remedy="sampler: tpe")
    if study.sampler.name == "cma_es" and len(study.objectives) > 1:
        yield UserError("cma_es takes one objective", where="sampler", remedy="sampler: tpe")
    if study.most_trials is None and study.node_hours is None:
        yield UserError("neither trials nor node_hours ends the study", where="trials", remedy="trials: 100")


def _unknown_keys(study: Tuning) -> Iterator[UserError]:
    from saman.configs.schemas.experiment import Experiment

    for where, keys in (("space", study.space), ("set", study.changes)):
        for key in keys:
            first = key.split(".")[0]
            if first not in Experiment.model_fields:
                remedy = f"a key path, as train.learning_rate.base; {choices(first, Experiment.model_fields)}"
                yield UserError(f"an experiment has no {key!r}", where=f"{where}.{key}", remedy=remedy)
            elif key in ("name", "publish", "export"):
                yield UserError(f"the study sets {key} of its trials", where=f"{where}.{key}", remedy="leave it out")


def _unused_keys(study: Tuning, program: TrialProgram) -> Iterator[UserError]:
    for key in study.space:
        if not any(f"{{{key}}}" in word for word in program.command):
            remedy = f"an argument with {{{key}}}"
            yield UserError(f"the command does not use {key}", where="program.command", remedy=remedy)
