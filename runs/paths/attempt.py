"""Files of one start of a run: command, placement, provenance, logs, telemetry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saman.runs.paths.names import is_number, names_in


@dataclass(frozen=True)
class Attempt:
    """Files of one start of a run. A process's files carry the number of its first rank, a node's its index.

    Where the ranks of a node are gathered (``runs.gathering``), a folder of the node's own holds the files of its
    processes, and the run folder those of the node.

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
    def timeline(self) -> Path:
        """Horovod's trace of its operations, in Chrome's trace format (``launch.horovod.timeline``)."""
        return self.path / "timeline.json"

    @property
    def autotune_log(self) -> Path:
        """The settings that Horovod's autotune tried (``launch.horovod.autotune``)."""
        return self.path / "autotune.csv"

    @property
    def hosts(self) -> Path:
        """The nodes for a start method whose arguments cannot hold them."""
        return self.path / "hosts.txt"

    @property
    def ports(self) -> Path:
        """Folder in which TensorFlow's workers publish their ports."""
        return self.path / "ports"

    @property
    def staged_folder(self) -> Path:
        """Results from node-local storage, a folder per node; ``NODE.partial`` is not whole."""
        return self.path / "staged"

    def component_log(self, name: str, task: int) -> Path:
        """Return the output of a process beside the ranks (``resources.components``)."""
        return self.path / "components" / f"{name}-{task}.log"

    @property
    def rank_folder(self) -> Path:
        """Folder of logs, records and heartbeats."""
        return self.path / "ranks"

    @property
    def telemetry_folder(self) -> Path:
        """Folder of telemetry."""
        return self.path / "telemetry"

    @property
    def nodes_folder(self) -> Path:
        """Folder of the files that each node writes for all its ranks."""
        return self.path / "nodes"

    def node_state(self, node: int) -> Path:
        """Records and heartbeats of the ranks of a node (``runs.ranks.node_state``)."""
        return self.nodes_folder / f"{node:05d}.state"

    def node_telemetry(self, node: int) -> Path:
        """Measurements of the ranks of a node, a line per rank and window of steps."""
        return self.nodes_folder / f"{node:05d}.jsonl"

    def node_log(self, node: int) -> Path:
        """Output of the ranks of a node, each line with its rank (``runs.gathering.node_log``)."""
        return self.nodes_folder / f"{node:05d}.log"

    def older_node_log(self, node: int) -> Path:
        """The part of a node's output before ``node_log``, once ``launch.log_limit`` was reached."""
        return self.nodes_folder / f"{node:05d}.log.1"

    @property
    def board(self) -> Path:
        """What the supervisor tells all nodes (``runs.ranks.board``)."""
        return self.nodes_folder / "board"

    def telemetry_nodes(self) -> list[int]:
        """Indices of the nodes that have written telemetry, lowest first."""
        stems = (name.removesuffix(".jsonl") for name in names_in(self.nodes_folder) if name.endswith(".jsonl"))
        return sorted(int(stem) for stem in stems if is_number(stem))

    def nodes(self) -> list[int]:
        """Indices of the nodes that have written their state, lowest first."""
        stems = (name.removesuffix(".state") for name in names_in(self.nodes_folder) if name.endswith(".state"))
        return sorted(int(stem) for stem in stems if is_number(stem))

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
        """First ranks of the processes that have left a record of their own, lowest first."""
        stems = (name.removesuffix(".json") for name in names_in(self.rank_folder) if name.endswith(".json"))
        return sorted(int(stem) for stem in stems if is_number(stem))

    def telemetry_files(self) -> list[Path]:
        """Telemetry of every process, lowest rank first, then of every node."""
        folders = (self.telemetry_folder, self.nodes_folder)
        return [folder / name for folder in folders for name in sorted(names_in(folder)) if name.endswith(".jsonl")]

    def make_folders(self) -> None:
        """Make the folders in which processes write."""
        for folder in (self.rank_folder, self.telemetry_folder, self.nodes_folder):
            folder.mkdir(parents=True, exist_ok=True)


def port_file(folder: Path, process: int) -> Path:
    """The path in ``ports`` of an attempt where worker ``process`` publishes its port."""
    return folder / f"{process:05d}.json"
