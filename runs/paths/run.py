"""Files of one run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saman.configs.private_values import SECRETS_FILE
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import is_number, names_in
from saman.runs.paths.parts import ExportPaths, SlurmPaths

REMOTE_FILE = "remote.json"
EXPERIMENT_FILE = "experiment.yaml"
SCRIPT_FILE = "script.yaml"


@dataclass(frozen=True)
class RunPaths:
    """Files of one run.

    >>> run = RunPaths(Path("runs/fashion/20260101-120000-000-a1b2c3"))
    >>> run.id, run.experiment_name
    ('20260101-120000-000-a1b2c3', 'fashion')
    >>> run.relative(run.attempt(1).provenance)
    'attempts/1/provenance.json'
    """

    path: Path

    @property
    def id(self) -> str:
        """Unique without coordination; ids sort by time."""
        return self.path.name

    @property
    def experiment_name(self) -> str:
        """Name of the experiment or study."""
        return self.path.parent.name

    @property
    def group(self) -> Path:
        """Folder of all runs of the experiment or study."""
        return self.path.parent

    @property
    def runs_dir(self) -> Path:
        """The folder of runs."""
        return self.path.parent.parent

    def relative(self, file: Path) -> str:
        """Name ``file`` as seen from the run folder."""
        return file.relative_to(self.path).as_posix()

    @property
    def experiment_file(self) -> Path:
        """The resolved experiment; running it again repeats the run."""
        return self.path / EXPERIMENT_FILE

    @property
    def secrets_file(self) -> Path:
        """Private values of the experiment, readable by its owner only (``runs.private_values``)."""
        return self.path / SECRETS_FILE

    @property
    def notebook(self) -> Path:
        """How the user reaches the Jupyter server of this run, with its token (``runs.ranks.notebook``)."""
        return self.path / "notebook.json"

    @property
    def script_file(self) -> Path:
        """Start of a user's own program; such a run has no experiment file."""
        return self.path / SCRIPT_FILE

    @property
    def remote_file(self) -> Path:
        """The cluster that has the run, if it was submitted from this machine over ssh (``runs.remote``)."""
        return self.path / REMOTE_FILE

    @property
    def events_file(self) -> Path:
        """Everything that happened, a line each."""
        return self.path / "events.jsonl"

    @property
    def state_file(self) -> Path:
        """State of the run, derived from its events."""
        return self.path / "state.json"

    @property
    def summary_file(self) -> Path:
        """Result of the newest attempt (``runs.records.summary``)."""
        return self.path / "summary.json"

    @property
    def energy_file(self) -> Path:
        """Energy of the run, where a meter exists (``runs.records.energy``)."""
        return self.path / "energy.json"

    @property
    def tracking_file(self) -> Path:
        """Deliveries to MLflow and TensorBoard."""
        return self.path / "tracking.json"

    @property
    def tuning_file(self) -> Path:
        """The tuning study whose best trial this run trains again (``runs.tuning.evidence``)."""
        return self.path / "tuning.json"

    @property
    def figures(self) -> Path:
        """Folder of figures."""
        return self.path / "figures"

    @property
    def curves(self) -> Path:
        """Metrics by step, drawn."""
        return self.figures / "curves.svg"

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints (``runs.checkpoints``)."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """Folder of the exported model."""
        return self.path / "export"

    @property
    def exported(self) -> ExportPaths:
        """Files of the exported model."""
        return ExportPaths(self.export)

    @property
    def artefacts(self) -> Path:
        """Folder of files that the user's own functions leave."""
        return self.path / "artefacts"

    @property
    def slurm(self) -> SlurmPaths:
        """Files about the run's Slurm job."""
        return SlurmPaths(self.path / "slurm")

    @property
    def control(self) -> Path:
        """Folder of stop requests and locks."""
        return self.path / "control"

    @property
    def stop_request(self) -> Path:
        """Marker file: if it exists, all ranks save a checkpoint and end cleanly."""
        return self.control / "stop"

    @property
    def reserve(self) -> Path:
        """Space for the last record of an attempt, given up when the disk is full (``runs.files.reserve``)."""
        return self.control / "reserve"

    @property
    def supervisor_lock(self) -> Path:
        """Lock that the supervisor holds; names its process and machine."""
        return self.control / "supervisor"

    @property
    def tracking_lock(self) -> Path:
        """Lock of the process that delivers the run to trackers."""
        return self.control / "tracking.lock"

    def ports_of_start(self, start: str) -> Path:
        """Return the folder for workers' ports where ranks were started by hand; ``start`` identifies that start."""
        return self.control / f"ports-{start}"

    @property
    def attempts_folder(self) -> Path:
        """Folder of all attempts."""
        return self.path / "attempts"

    def attempt(self, number: int) -> Attempt:
        """Return the files of attempt ``number``."""
        return Attempt(self.attempts_folder / str(number))

    def attempts(self) -> list[Attempt]:
        """List every attempt so far, oldest first."""
        folder = self.attempts_folder
        numbers = sorted(int(name) for name in names_in(folder) if is_number(name))
        return [Attempt(folder / str(number)) for number in numbers]
