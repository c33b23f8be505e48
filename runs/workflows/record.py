"""``.workflows/<name>/<time>.json``: a submitted workflow, with the runs of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_name, is_run_name
from saman.runs.files.whole import write_json
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.paths.runs_folder import new_workflow_file, workflow_folder
from saman.runs.records.schema import mapping, read_record


@dataclass(frozen=True)
class WorkflowStep:
    """A step: its name, what it runs, the steps it waits for, and its runs relative to the folder of runs."""

    name: str
    kind: str
    after: tuple[str, ...]
    runs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "kind": self.kind, "after": list(self.after), "runs": list(self.runs)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WorkflowStep:
        """Read what ``to_json`` wrote."""
        runs = (text for text in _texts(value.get("runs")) if is_run_name(text))
        return cls(str(value.get("name")), str(value.get("kind")), _texts(value.get("after")), tuple(runs))


@dataclass(frozen=True)
class WorkflowRecord:
    """A submitted workflow: its name, file, cluster, its steps in their order, and the user who submitted it."""

    name: str
    file: str
    cluster: str
    steps: tuple[WorkflowStep, ...]
    owner: int | None = field(default=None, compare=False)  # None: a record that was not read from a file

    def write(self, runs_dir: Path) -> Path:
        """Record the workflow below the folder of runs; returns the file."""
        file = new_workflow_file(runs_dir, self.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        steps = [step.to_json() for step in self.steps]
        write_json(file, {"schema": 1, "name": self.name, "file": self.file, "cluster": self.cluster, "steps": steps})
        return file

    @classmethod
    def read(cls, file: Path) -> WorkflowRecord | None:
        """Read a record; ``None`` if the file is torn. Raises ``NewerSchema``."""
        value = read_record(file)
        if value is None:
            return None
        listed = value.get("steps")
        steps = tuple(WorkflowStep.from_json(mapping(step)) for step in (listed if isinstance(listed, list) else ()))
        owner = file.lstat().st_uid
        return cls(str(value.get("name")), str(value.get("file")), str(value.get("cluster")), steps, owner)

    def runs(self, runs_dir: Path) -> list[RunFolder]:
        """The runs of all steps in their order, as far as they still exist and belong to whoever submitted them.

        Else, in a shared folder of runs, a record could have its reader cancel other runs than those of its name.
        """
        folders = [RunFolder(runs_dir.absolute() / run) for step in self.steps for run in step.runs]
        return [run for run in folders if self._has_submitted(run)]

    def _has_submitted(self, run: RunFolder) -> bool:
        there = run.experiment_file.is_file() or run.script_file.is_file()
        return there and (self.owner is None or run.path.lstat().st_uid == self.owner)


def find_workflow(text: str, runs_dir: Path) -> WorkflowRecord | None:
    """Find the newest submission of the workflow that ``text`` names, by its name or its YAML file.

    Returns:
        The record; ``None`` if ``text`` names no submitted workflow.

    Raises:
        UserError: The YAML file is a workflow with mistakes, or was never submitted.
    """
    from saman.configs.loading.workflows import is_workflow, load_workflow

    of_file = is_workflow(text)
    name = load_workflow(Path(text)).name if of_file else text
    if not is_name(name) or name == "last":
        return None
    folder = workflow_folder(runs_dir, name)
    for file in sorted((each for each in names_in(folder) if each.endswith(".json")), reverse=True):
        if (record := WorkflowRecord.read(folder / file)) is not None:
            return record
    if of_file:
        raise UserError(f"the workflow {name} was never submitted from {runs_dir}", remedy=f"saman submit {text}")
    return None


def all_workflows(runs_dir: Path) -> list[WorkflowRecord]:
    """Every submission of every workflow."""
    folders = [workflow_folder(runs_dir, name) for name in names_in(workflow_folder(runs_dir, ""))]
    files = [folder / name for folder in folders for name in names_in(folder) if name.endswith(".json")]
    return [record for file in sorted(files) if (record := WorkflowRecord.read(file)) is not None]


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()
