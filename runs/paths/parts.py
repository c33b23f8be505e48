"""Files of an exported model, and files that saman and Slurm exchange about a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    def setup_failure(self) -> Path:
        """The step of the site's set-up that failed in the last job, and why."""
        return self.path / "setup-failure"

    @property
    def exclude(self) -> Path:
        """Nodes that the requeued job must avoid."""
        return self.path / "exclude"

    @property
    def replacement_jobs(self) -> Path:
        """Ids of the jobs that hold replacement nodes, a line each."""
        return self.path / "replacement-jobs"

    @property
    def replacement_beat(self) -> Path:
        """A number that changes as long as the supervisor needs its replacement nodes."""
        return self.path / "replacement-beat"

    @property
    def replacement_log(self) -> Path:
        """Output of the jobs that hold replacement nodes."""
        return self.path / "replacement.out"
