"""What a tuning study runs: the experiment or program of each trial, and of the best trial with other seeds."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError, choices
from saman.configs.loading.experiments import LoadedExperiment, load_experiment
from saman.configs.loading.tunings import base_of, load_tuning
from saman.configs.problems import validated
from saman.configs.schemas.experiment import Condition, Experiment
from saman.configs.schemas.script import Script
from saman.configs.schemas.tuning import MEASURES, SEED, Choice, Range, Tuning
from saman.configs.units import parse_duration
from saman.launcher.programs import with_absolute_files
from saman.runs.paths.runs_folder import StudyPaths
from saman.tuning.space import filled, overrides


@dataclass(frozen=True)
class RunSpec:
    """A run to make: its key (``12``, or ``12/seed-3``), what it runs, and the folders of the user's code."""

    key: str
    spec: Experiment | Script
    code_path: tuple[Path, ...] = ()

    @property
    def node_hours_bound(self) -> float:
        """The most that a start may cost: its nodes for its time limit."""
        resources = self.spec.resources
        return resources.nodes * parse_duration(resources.time_limit) / 3600


@dataclass(frozen=True)
class TuningPlan:
    """A tuning study, its file, and its base experiment if it has one."""

    study: Tuning
    file: Path
    base: LoadedExperiment | None

    @property
    def epochs(self) -> int | None:
        """Epochs of a whole trial; ``None`` if unknown."""
        if self.study.program is not None:
            return self.study.program.epochs
        return self.base.experiment.train.epochs if self.base else None

    @property
    def publishes(self) -> str | None:
        """The model name under which the best run is published."""
        wanted = self.study.confirm
        own = self.base.experiment.publish if self.base else None
        return None if wanted is None else wanted.publish or (own.model if own else None)

    @property
    def condition(self) -> Condition | None:
        """The condition on a metric for the publication."""
        wanted = self.study.confirm
        own = self.base.experiment.publish if self.base else None
        return None if wanted is None else wanted.condition or (own.condition if own else None)

    def paths(self, runs_dir: Path) -> StudyPaths:
        """The folder of the study."""
        return StudyPaths.of(runs_dir.absolute(), self.study.name)

    def trial(self, number: int, settings: Mapping[str, Any]) -> RunSpec:
        """The run of a trial. Raises ``UserError`` if the values make no valid experiment."""
        if self.study.program is not None:
            return RunSpec(str(number), self._script(settings))
        measured = any(objective.metric == "parameters" for objective in self.study.objectives)
        fixed = {"export": self.study.exports or measured, "publish": None, "name": self.study.name}
        loaded = self._load({**self.study.changes, **settings, **fixed})
        return RunSpec(str(number), loaded.experiment, loaded.code_path)

    def with_seed(self, number: int, settings: Mapping[str, Any], seed: int) -> RunSpec:
        """The run of the best trial with another seed, with its export. Raises ``UserError`` as ``trial``."""
        changes = self.study.confirm.changes if self.study.confirm else {}
        fixed = {SEED: seed, "export": True, "publish": None, "name": self.study.name}
        loaded = self._load({**self.study.changes, **settings, **changes, **fixed})
        return RunSpec(f"{number}/seed-{seed}", loaded.experiment, loaded.code_path)

    def _load(self, settings: Mapping[str, Any]) -> LoadedExperiment:
        name = base_of(self.study, self.file)
        assert name is not None  # the schema asks for an experiment or a program
        return load_experiment(name, overrides(settings))

    def _script(self, settings: Mapping[str, Any]) -> Script:
        program = self.study.program
        assert program is not None
        folder = self.file.parent if program.directory is None else self.file.parent / program.directory
        values = {
            "name": self.study.name,
            "command": filled(program.command, settings),
            "directory": str(folder.resolve()),
            "resources": program.resources.model_dump(mode="json", by_alias=True),
            "launch": program.launch.model_dump(mode="json", by_alias=True),
        }
        return with_absolute_files(validated(Script, values, str(self.file)))


def make_plan(name: str, changes: Sequence[str] = ()) -> TuningPlan:
    """Load a tuning study and its experiment, and check that they fit each other.

    Args:
        name: The study: a file, or the name of a shipped one.
        changes: ``KEY=VALUE`` from the command line.

    Raises:
        UserError: With every mistake.
    """
    study, file = load_tuning(name, changes)
    base = base_of(study, file)
    if base is None:
        return TuningPlan(study, file, None)
    fixed = {} if study.program is not None else {"export": True}
    plan = TuningPlan(study, file, load_experiment(base, overrides({**study.changes, **fixed})))
    if study.program is None:
        _check_metrics(plan)
        _check_space(plan)
    if study.confirm is not None and plan.publishes is None:
        remedy = "confirm: {publish: NAME}, or publish in the experiment"
        raise UserError("the model to publish has no name", where=f"{file}: confirm", remedy=remedy)
    return plan


def _check_metrics(plan: TuningPlan) -> None:
    assert plan.base is not None
    valid = {name for name in plan.base.experiment.metrics() if not name.startswith("test_")} | set(MEASURES)
    for objective in plan.study.objectives:
        if objective.metric not in valid:
            problem = f"the experiment does not compute the metric {objective.metric!r}"
            raise UserError(problem, where=f"{plan.file}: objectives", remedy=choices(objective.metric, valid))


def _check_space(plan: TuningPlan) -> None:
    """Refuse keys and values that make no valid experiment, whatever the other keys are.

    Some combinations may still make none; their trials fail with the reason.
    """
    values = {key: _examples(part) for key, part in plan.study.space.items()}
    ends = [{key: found[place] for key, found in values.items()} for place in (0, -1)]
    for key, found in values.items():
        for value in found:
            mistakes = [mistake for end in ends if (mistake := _mistake(plan, {**end, key: value})) is not None]
            if len(mistakes) == len(ends):
                raise _in_space(plan, key, {**ends[0], key: value}, mistakes[0])


def _in_space(plan: TuningPlan, key: str, settings: Mapping[str, Any], mistake: UserError) -> UserError:
    """Return the mistake with its place in the study's file; its own is the experiment's file or a command line."""
    blamed = next((each for each in settings if str(mistake.where).endswith(f": {each}")), None)
    named = "" if blamed or mistake.where is None else f" ({mistake.where})"
    key = blamed or key
    problem = f"no experiment can have {reprlib.repr(settings[key])}: {mistake.problem}{named}"
    return UserError(problem, where=f"{plan.file}: space.{key}", remedy=mistake.remedy)


def _examples(part: Range | Choice) -> list[Any]:
    return [part.low, part.high] if isinstance(part, Range) else part.choices


def _mistake(plan: TuningPlan, settings: Mapping[str, Any]) -> UserError | None:
    try:
        plan.trial(0, settings)
    except UserError as error:
        return error
    return None
