"""Every path inside a run folder and inside the folder of runs. Other rooms ask here; none spells a path itself.

runs/                                   the folder of runs (``--runs-dir``)
  .arrays/<time>/  .code/<time>/        job arrays; copies of users' code
  <experiment or study>/                also holds study.json and study.lock
    <run id>/                           RunPaths
      experiment.yaml | script.yaml     what runs, resolved
      secrets.json                      its private values, for its owner only
      events.jsonl  state.json          what happened; the state that follows from it
      summary.json  energy.json         the result; joules, where a meter exists
      tracking.json  figures/           what trackers have received; curves
      attempts/<n>/                     Attempt: command, placement, provenance, logs, telemetry
      checkpoints/  export/             checkpoints; ExportPaths: the exported model
      control/                          stop requests and locks
      slurm/                            SlurmPaths: job script, cluster file, log of the job
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from saman.configs.private_values import SECRETS_FILE


def names_in(folder: Path) -> list[str]:
    """List the names in ``folder``; empty if it cannot be read. Cheaper than ``Path.glob`` over thousands of runs."""
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _is_number(name: str) -> bool:
    """Whether a name is a number that saman writes; ``²`` is a digit too, and ``int`` refuses it."""
    return name.isascii() and name.isdigit() and len(name) < 10


@dataclass(frozen=True)
class Attempt:
    """Files of one start of a run. A process's files carry the number of its first rank.

    >>> attempt = Attempt(Path("runs/fashion/20260101-120000-000-a1b2c3/attempts/2"))
    >>> attempt.number
    2
    >>> attempt.log(0).relative_to(attempt.path).as_posix()
    'ranks/00000.log'
    """

    path: Path

    @property
    def number(self) -> int:
        """1 for the first start."""
        return int(self.path.name)

    @property
    def command(self) -> Path:
        """The exact command that started the ranks, quoted for a shell."""
        return self.path / "command.txt"

    @property
    def provenance(self) -> Path:
        """Origin of the attempt: code, versions, machine, environment."""
        return self.path / "provenance.json"

    @property
    def placement(self) -> Path:
        """The planned placement of every process and rank."""
        return self.path / "placement.json"

    @property
    def starter_log(self) -> Path:
        """Output of the start method itself (mpirun, srun, horovodrun)."""
        return self.path / "starter.log"

    @property
    def job_script(self) -> Path:
        """Copy of the job script that Slurm ran."""
        return self.path / "job.sbatch"

    @property
    def rendezvous(self) -> Path:
        """Host and port of Horovod's rendezvous server."""
        return self.path / "rendezvous.json"

    @property
    def ports(self) -> Path:
        """Folder in which TensorFlow's workers publish their ports."""
        return self.path / "ports"

    @property
    def rank_folder(self) -> Path:
        """Folder of logs, records and heartbeats."""
        return self.path / "ranks"

    @property
    def telemetry_folder(self) -> Path:
        """Folder of telemetry."""
        return self.path / "telemetry"

    def log(self, rank: int) -> Path:
        """Output of the process of ``rank``."""
        return self.rank_folder / f"{rank:05d}.log"

    def older_log(self, rank: int) -> Path:
        """The part of a process's output before ``log``, once ``launch.log_limit`` was reached."""
        return self.rank_folder / f"{rank:05d}.log.1"

    @property
    def older_starter_log(self) -> Path:
        """The part of the start method's output before ``starter_log``, once ``launch.log_limit`` was reached."""
        return self.path / f"{self.starter_log.name}.1"

    def rank_record(self, rank: int) -> Path:
        """Placement that the process found, and its exit status or signal."""
        return self.rank_folder / f"{rank:05d}.json"

    def heartbeat(self, rank: int) -> Path:
        """Phase, epoch and step of the process, rewritten during the run."""
        return self.rank_folder / f"{rank:05d}.heartbeat.json"

    def telemetry(self, rank: int) -> Path:
        """Measurements of the process, a line per window of steps."""
        return self.telemetry_folder / f"{rank:05d}.jsonl"

    def ranks(self) -> list[int]:
        """First ranks of the processes that have left a record, lowest first."""
        stems = (name.removesuffix(".json") for name in names_in(self.rank_folder) if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if _is_number(stem))

    def telemetry_files(self) -> list[Path]:
        """Telemetry of every process, lowest rank first."""
        folder = self.telemetry_folder
        return [folder / name for name in sorted(names_in(folder)) if name.endswith(".jsonl")]

    def make_folders(self) -> None:
        """Make the folders in which processes write."""
        for folder in (self.rank_folder, self.telemetry_folder):
            folder.mkdir(parents=True, exist_ok=True)


def port_file(folder: Path, process: int) -> Path:
    """Return the file in which worker ``process`` publishes its port; ``folder`` is ``ports`` of an attempt."""
    return folder / f"{process:05d}.json"


@dataclass(frozen=True)
class ExportPaths:
    """Files of an exported model. Publishing moves all but the record into the models folder."""

    path: Path

    @property
    def record(self) -> Path:
        """Description of the export (``runs.records.export``)."""
        return self.path / "export.json"

    @property
    def saved_model(self) -> Path:
        """TensorFlow SavedModel with the serving signature."""
        return self.path / "saved_model"

    @property
    def keras_file(self) -> Path:
        """The model in Keras's own format."""
        return self.path / "model.keras"

    @property
    def validation(self) -> Path:
        """Validation sample: raw inputs, labels, ids, predictions."""
        return self.path / "validation.npz"

    def required(self) -> tuple[Path, ...]:
        """Files without which an export is incomplete."""
        model = self.saved_model
        return model / "saved_model.pb", model / "variables" / "variables.index", self.record


@dataclass(frozen=True)
class SlurmPaths:
    """Files that saman and Slurm exchange about a run."""

    path: Path

    @property
    def cluster(self) -> Path:
        """The cluster file that the run was submitted with."""
        return self.path / "cluster.yaml"

    @property
    def script(self) -> Path:
        """The job script."""
        return self.path / "job.sbatch"

    @property
    def follow_up_script(self) -> Path:
        """Script of the jobs that continue where the previous job was cut short."""
        return self.path / "follow-up.sbatch"

    @property
    def log(self) -> Path:
        """Output of the job script."""
        return self.path / "job.out"

    @property
    def begun(self) -> Path:
        """Ids of the jobs that have begun, a line each."""
        return self.path / "begun"

    @property
    def exclude(self) -> Path:
        """Nodes that the requeued job must avoid."""
        return self.path / "exclude"


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
        return self.path / "experiment.yaml"

    @property
    def secrets_file(self) -> Path:
        """Private values of the experiment, readable by its owner only (``runs.private_values``)."""
        return self.path / SECRETS_FILE

    @property
    def script_file(self) -> Path:
        """Start of a user's own program; such a run has no experiment file."""
        return self.path / "script.yaml"

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
        numbers = sorted(int(name) for name in names_in(self.attempts_folder) if _is_number(name))
        return [self.attempt(number) for number in numbers]


@dataclass(frozen=True)
class StudyPaths:
    """Files of a study beside its runs.

    >>> StudyPaths.of(Path("runs"), "scaling").record.as_posix()
    'runs/scaling/study.json'
    """

    path: Path

    @classmethod
    def of(cls, runs_dir: Path, name: str) -> StudyPaths:
        """Return the paths of the study ``name``."""
        return cls(runs_dir / name)

    @property
    def record(self) -> Path:
        """The study's plan (``runs.records.study``)."""
        return self.path / "study.json"

    @property
    def lock(self) -> Path:
        """Lock of the process that runs or submits the study."""
        return self.path / "study.lock"

    def experiment_runs(self) -> list[Path]:
        """List the run folders that hold an experiment, oldest first."""
        return sorted(file.parent for file in self.path.glob("*/experiment.yaml"))


def planned_run(runs_dir: Path, name: str, placeholder: str = "RUN") -> Path:
    """Return the folder of a run that is only planned; ``placeholder`` replaces its id."""
    return runs_dir.absolute() / name / placeholder


def new_array_folder(runs_dir: Path) -> Path:
    """Return the path of a fresh folder for the script and logs of a job array; it does not exist yet."""
    return _fresh(runs_dir.absolute() / ".arrays")


def array_script(folder: Path) -> Path:
    """Return the path of the job script in an array's folder."""
    return folder / "job.sbatch"


def new_code_folder(runs_dir: Path) -> Path:
    """Return a fresh folder for a copy of a user's code; it does not exist yet."""
    return _fresh(runs_dir.absolute() / ".code")


def code_diff(folder: Path) -> Path:
    """Return the path, in a copy of code, of the difference to its commit."""
    return folder / "code.diff"


def _fresh(parent: Path) -> Path:
    return parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
