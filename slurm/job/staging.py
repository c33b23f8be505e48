"""Copies the environment and data of the ranks to the nodes of a job before they start, and removes the copies."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.home_folder import in_home
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.configs.variables_in_text import expand
from saman.launcher.staging.archive import Archive
from saman.launcher.staging.data import copy_of, data_archive, data_paths
from saman.launcher.staging.environment import environment_archive, this_environment
from saman.launcher.starters.start import Command, Start
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.ranks.staged_data import staged_variable
from saman.slurm.job.allocation import Allocation

COPY_SECONDS = 1800.0  # for all nodes; an environment of 2 GB takes seconds to a minute
_MISSING = 10  # node.sh prepare: the copy is not on every node


@dataclass(frozen=True)
class NodeCopies:
    """The copies on every node. ``environment`` replaces the folder of this process's environment, ``origin``."""

    origin: Path | None = None
    environment: Path | None = None
    data: Mapping[Path, Path] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The Python that runs the ranks."""
        return sys.executable if self.environment is None else str(self.environment / "bin" / Path(sys.executable).name)

    def adapted(self, start: Start) -> Start:
        """The start with the copies instead of the originals."""
        commands = tuple(map(self._adapted, start.commands))
        companions = tuple(map(self._adapted, start.companions))
        return replace(start, commands=commands, companions=companions)

    def _adapted(self, command: Command) -> Command:
        variables = {**self._variables(command.environment), **staged_variable(self.data)}
        argv = [self.python if word == sys.executable else word for word in command.argv]
        if command.argv and Path(command.argv[0]).name in ("mpirun", "mpiexec") and "-x" in argv:  # Open MPI
            argv[1:1] = [word for name in variables for word in ("-x", name)]
        return replace(command, argv=tuple(argv), environment={**command.environment, **variables})

    def _variables(self, given: Mapping[str, str]) -> dict[str, str]:
        if self.origin is None or self.environment is None:
            return {}
        programs = str(self.environment / "bin")
        path = given.get("PATH") or os.environ.get("PATH", os.defpath)
        entries = [entry for entry in path.split(os.pathsep) if Path(entry) != self.origin / "bin"]
        found = {"PATH": os.pathsep.join([programs, *entries]), "VIRTUAL_ENV": str(self.environment)}
        if any((self.origin / "lib").glob("libmpi.so*")):  # the MPI wheel finds its own files by it
            found["OPAL_PREFIX"] = str(self.environment)
        if any((self.environment.parent / "base" / "lib").glob("libpython*.so*")):
            found["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, (str(self.environment.parent / "base" / "lib"), os.environ.get("LD_LIBRARY_PATH")))
            )
        return found

    def record(self) -> dict[str, str]:
        """The originals and the job's copies on the nodes, for the provenance."""
        own = {} if self.origin is None else {str(self.origin): str(self.environment)}
        return own | {str(path): str(copy) for path, copy in self.data.items()}


@contextlib.contextmanager
def staged(
    spec: Experiment | Script,
    cluster: Cluster,
    here: Allocation,
    say: Callable[[str], None],
    lost: Collection[str] = (),
) -> Iterator[NodeCopies]:
    """Bring the copies that a cluster file asks for to every node, and release them at the end.

    Args:
        spec: What the ranks run; of an experiment, ``data.args`` names the data.
        cluster: The cluster file.
        here: The allocation.
        say: Receives a sentence for each copy, and the reason for each failure.
        lost: Nodes that fail while the copies are in use; read at the end.

    Yields:
        The copies; without those that failed, where ``staging.on_failure`` is ``shared``.

    Raises:
        EnvironmentLack: A copy failed, and ``staging.on_failure`` is ``end``.
    """
    nodes = _Nodes(here, node_folder(cluster, os.environ), cluster.staging.after_job == "keep", lost)
    copies, brought = NodeCopies(), list[str]()
    try:
        for each in _wanted(spec, cluster):
            try:
                archive = each.archive(say)
                brought.append(archive.stamp)
                folder = nodes.bring(archive, each.origin)
            except EnvironmentLack as lack:
                if cluster.staging.on_failure == "end":
                    raise
                say(f"{lack}; the ranks read {each.origin} itself (staging.on_failure: shared)")
                continue
            copies = each.add(copies, folder)
            say(f"{each.origin} is copied to {folder} on each node")
        yield copies
    finally:
        for stamp in brought:
            nodes.release(stamp, say)


def node_folder(cluster: Cluster, environ: Mapping[str, str]) -> Path:
    """The folder of a user's copies on every node."""
    asked = cluster.staging.folder or cluster.node_local
    parent = expand(asked, environ) if asked is not None else environ.get("TMPDIR") or "/tmp"
    return in_home(parent) / f"saman-{os.getuid()}"


@dataclass(frozen=True)
class _Wanted:
    """Something to copy; ``add`` records its folder on the nodes."""

    origin: Path
    archive: Callable[[Callable[[str], None]], Archive]
    add: Callable[[NodeCopies, Path], NodeCopies]


def _wanted(spec: Experiment | Script, cluster: Cluster) -> Iterator[_Wanted]:
    environment = this_environment() if cluster.stages_environment else None
    if environment is not None:
        origin = environment.prefix
        yield _Wanted(
            origin,
            lambda say: environment_archive(environment, say),
            lambda copies, folder: replace(copies, origin=origin, environment=folder / "env"),
        )
    if cluster.data.stage == "node" and isinstance(spec, Experiment):
        yield from map(_wanted_data, data_paths(spec.data.args))


def _wanted_data(path: Path) -> _Wanted:
    def add(copies: NodeCopies, folder: Path) -> NodeCopies:
        return replace(copies, data={**copies.data, path: copy_of(folder, path)})

    return _Wanted(path, lambda say: data_archive(path, say), add)


@dataclass(frozen=True)
class _Nodes:
    """The nodes of the allocation, with the folder of the user's copies on each."""

    here: Allocation
    root: Path
    keep: bool
    lost: Collection[str] = ()

    def bring(self, archive: Archive, origin: Path) -> Path:
        """Unpack an archive on every node where it is missing; returns its folder there."""
        status, said = self._on_each("prepare", archive.stamp)
        if status not in (0, _MISSING):
            raise EnvironmentLack(f"not copied to the nodes: {said}", where=str(origin))
        if status == _MISSING:
            from_where = "delivered" if self._broadcast(archive) else "shared"
            name = "" if archive.packed else archive.path.name
            status, said = self._on_each("unpack", archive.stamp, str(archive.path), str(origin), name, from_where)
            if status != 0:
                raise EnvironmentLack(f"not copied to the nodes: {said}", where=str(origin))
        return self.root / archive.stamp

    def release(self, stamp: str, say: Callable[[str], None]) -> None:
        """Release the copy on every node."""
        status, said = self._on_each("release", stamp, "keep" if self.keep else "remove")
        if status != 0:
            say(f"the copy in {self.root / stamp} was not removed from every node: {said}")

    def _broadcast(self, archive: Archive) -> bool:
        """Send the archive to every node through Slurm's own tree; if that fails, each node reads the file once."""
        target = self.root / f"{archive.stamp}.{self.here.raw_job}.in"
        try:
            command = ["sbcast", "--force", str(archive.path), str(target)]
            return run_command(command, timeout_seconds=COPY_SECONDS).returncode == 0
        except COMMAND_ERRORS:
            return False

    def _on_each(self, action: str, stamp: str, *more: str) -> tuple[int, str]:
        """Run the script once on each node; returns the highest exit status, and what the first failing node said."""
        here = self.here.without(self.lost)
        count = len(here.nodes)
        step = ["srun", "--overlap", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1",
                "--cpus-per-task=1", "--mem=0", "--mpi=none", "--quiet", "--kill-on-bad-exit=0"]  # fmt: skip
        step += [f"--nodelist={','.join(here.nodes)}"] if self.lost else []
        script: Sequence[str] = ("sh", "-c", _script(), "node.sh", action, str(self.root), stamp, self.here.raw_job)
        try:
            done = run_command([*step, *script, *more], timeout_seconds=COPY_SECONDS)
        except COMMAND_ERRORS as error:
            return 1, str(error)
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("srun:")]
        return done.returncode, (lines or done.stderr.splitlines() or ["srun failed"])[0]


def _script() -> str:
    """The text of the script: as an argument of srun, it costs the shared file system nothing."""
    return (resources.files("saman.launcher.staging") / "node.sh").read_text(encoding="utf-8")
