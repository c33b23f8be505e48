"""The schema of a workflow: steps that run one after another on a cluster, such as prepare data, train, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.problems import Problems, Strict

StepKind = Literal["program", "experiment", "study", "report"]
_KINDS: tuple[StepKind, ...] = ("program", "experiment", "study", "report")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[Name], BeforeValidator(_listed)]


class Step(Strict):
    """A step: exactly one of ``program``, ``experiment``, ``study`` and ``report``.

    Attributes:
        program: A command, word by word.
        experiment: An experiment, by file or shipped name.
        study: A study, by file or shipped name; the step ends when all its runs have ended.
        report: A step whose runs are reported; the report waits until they have ended, whatever their result.
        after: Steps that must complete before.
        after_any: Steps that must end before, whatever their result.
        changes: Changes, as ``KEY=VALUE`` on the command line.
        ranks: The number of ranks, as ``-np``.
        partition: The partition; by default the cheapest that fits.
    """

    program: list[str] | None = Field(None, min_length=1)
    experiment: str | None = None
    study: str | None = None
    report: Name | None = None
    after: Names = []
    after_any: Names = []
    changes: dict[str, Any] = Field({}, alias="set")
    ranks: PositiveInt | None = None
    partition: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Step:
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "none of them"
            raise ValueError(f"give exactly one of {', '.join(_KINDS)}; this step has {named}")
        if self.ranks is not None and self.kind in ("study", "report"):
            raise ValueError(f"a {self.kind} has no ranks; leave the key out")
        return self

    @property
    def kind(self) -> StepKind:
        """What the step runs."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def waits(self) -> Mapping[str, bool]:
        """The steps before this step, with whether they must complete (or only end)."""
        reported = {self.report: False} if self.report is not None else {}
        return {**reported, **dict.fromkeys(self.after_any, False), **dict.fromkeys(self.after, True)}


class Workflow(Strict):
    """Steps by name; each begins when the steps that it names under ``after`` have completed."""

    name: Name
    steps: dict[Name, Step] = Field(min_length=1)

    @model_validator(mode="after")
    def _sound(self) -> Workflow:
        found = list(_mistakes(self))
        if found:
            raise Problems(found)
        return self

    def order(self) -> list[str]:
        """The steps, each after those that it waits for; otherwise as in the file."""
        done: list[str] = []
        while len(done) < len(self.steps):
            done.append(next(n for n, s in self.steps.items() if n not in done and set(s.waits) <= set(done)))
        return done


def _mistakes(workflow: Workflow) -> Iterator[UserError]:
    steps = workflow.steps
    if workflow.name == "last":
        yield UserError("last means the newest run", where="name", remedy="another name")
    for name, step in steps.items():
        for key, names in (("after", step.after), ("after_any", step.after_any), ("report", [step.report])):
            for other in names:
                if other is not None and other not in steps:
                    yield UserError(
                        f"no step is called {other!r}", where=f"steps.{name}.{key}", remedy=choices(other, steps)
                    )
        if both := set(step.after) & set(step.after_any):
            named = ", ".join(sorted(both))
            yield UserError(f"{named} is under after and after_any", where=f"steps.{name}", remedy="keep one of them")
        if step.report is not None and step.report in steps and steps[step.report].kind in ("program", "report"):
            yield UserError(
                f"{step.report!r} is a {steps[step.report].kind}, of which there is no report",
                where=f"steps.{name}.report", remedy="a step with a study or an experiment",
            )  # fmt: skip
    try:
        graph = {name: set(step.waits) & set(steps) for name, step in steps.items()}
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        yield UserError(f"the steps wait for each other in a circle: {circle}", where="steps", remedy="remove an after")
