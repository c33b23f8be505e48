"""What all start methods share: from a placement, a program and facts about the machine to a start. Pure."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from saman.launcher.node.horovod_build import HorovodBuild
from saman.launcher.node.mpi import MpiInstallation
from saman.launcher.plan.placement import Placement
from saman.runs import variables
from saman.runs.paths.run import RunPaths

NODE_LIST = "--nodelist="  # srun's option
LONGEST_ARGUMENT = 100_000  # bytes; Linux takes none above 131,071 (MAX_ARG_STRLEN, execve(2))


@dataclass(frozen=True)
class RankProgram:
    """The program of every process, its run and attempt, and the variables to set for it.

    ``elastic`` is the largest number of ranks in a world of an elastic run, 0 for other runs.
    """

    run: Path
    attempt: int
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    horovod: bool = True
    elastic: int = 0
    loses_workers: bool = False  # a process may end without the others

    @property
    def rendezvous_file(self) -> Path:
        """The file from which a start command's ranks learn the port of Horovod's rendezvous server."""
        return RunPaths(self.run).attempt(self.attempt).rendezvous

    @property
    def host_file(self) -> Path:
        """The host file of a start command, where an argument cannot list the nodes."""
        return RunPaths(self.run).attempt(self.attempt).hosts


@dataclass(frozen=True)
class MachineFacts:
    """Facts about the machine.

    ``python`` runs saman on every node, ``forward`` names the variables to forward to other nodes, ``interfaces`` are
    those of the network for MPI, Gloo and NCCL, ``address`` is this node's on the first, ``pmi`` srun's MPI type.
    """

    python: str
    mpi: MpiInstallation | None = None
    horovod: HorovodBuild | None = None
    horovodrun: str | None = None
    srun: str | None = None
    in_allocation: bool = False
    pmi: str = "pmix"
    interfaces: tuple[str, ...] = ()
    address: str | None = None
    is_root: bool = False
    forward: tuple[str, ...] = ()
    srun_options: tuple[str, ...] = ()
    component_nodes: tuple[tuple[str, ...], ...] = ()  # of a heterogeneous job: those of every part but the ranks'
    site_starter: str | None = None  # the start method of the cluster file

    @property
    def horovod_speaks_mpi(self) -> bool:
        """For the choice of a starter: whether Horovod is linked with the MPI family of this machine."""
        return self.horovod is not None and self.mpi is not None and self.horovod.mpi == self.mpi.abi


@dataclass(frozen=True)
class Command:
    """A process to start, and the variables to set for it besides the inherited variables; ``label`` is for people."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    def on_node(self, node: str, job: str = "") -> Command:
        """The command with another node for its step (``steps``), of this job or another; others stay as they are."""
        end = self.argv.index("--") if "--" in self.argv else len(self.argv)
        words = (f"{NODE_LIST}{node}" if word.startswith(NODE_LIST) else word for word in self.argv[:end])
        program, *options = words
        return replace(self, argv=(program, *([f"--jobid={job}"] if job else []), *options, *self.argv[end:]))

    def text(self, but: Mapping[str, str] | None = None) -> str:
        """The start command for a shell, without the variables that ``but`` already has."""
        assignments = [f"{name}={value}" for name, value in self.environment.items() if (but or {}).get(name) != value]
        return shlex.join(["env", *assignments, *self.argv] if assignments else self.argv)


@dataclass(frozen=True)
class Start:
    """How a run starts: ``companions`` run beside the ranks and end after them; ``stop_signal`` ends both.

    ``to_set`` names variables with private values that its text leaves out. ``files`` must exist before the start.
    """

    starter: str
    commands: tuple[Command, ...]
    companions: tuple[Command, ...] = ()
    notes: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    to_set: tuple[str, ...] = ()
    files: Mapping[Path, str] = field(default_factory=dict)

    def without_variables(self, names: Collection[str]) -> Start:
        """The start without the variables ``names``; its text asks whoever pastes it to set them."""

        def kept(command: Command) -> Command:
            return replace(command, environment={k: v for k, v in command.environment.items() if k not in names})

        commands, companions = tuple(map(kept, self.commands)), tuple(map(kept, self.companions))
        missing = {name for command in self.commands for name in command.environment if name in names}
        return replace(self, commands=commands, companions=companions, to_set=tuple(sorted(missing)))

    def text(self, directory: Path | None = None) -> str:
        """The exact command, to paste into bash; its exit status is that of the ranks."""
        processes = [*self.commands, *self.companions]
        shared = {
            name: value
            for name, value in self.commands[0].environment.items()
            if all(command.environment.get(name) == value for command in self.commands)
        }
        lines = [f"cd {shlex.quote(str(directory))}"] if directory else []
        lines += [f"export {name}={shlex.quote(value)}" for name, value in shared.items()]
        if len(processes) == 1:
            lines.append(self.commands[0].text(but=shared))
        else:
            lines += [f"{command.text(but=shared)} & companions+=($!)" for command in self.companions]
            lines += [f"{command.text(but=shared)} & ranks+=($!)" for command in self.commands]
            lines.append('for rank in "${ranks[@]}"; do wait "$rank" || status=$?; done')
            lines += ['kill "${companions[@]}"'] if self.companions else []
            lines.append('exit "${status:-0}"')
        if self.to_set:
            lines.insert(0, f"# set these first; their values are private: {' '.join(self.to_set)}")
        return "(\n" + "\n".join(lines) + "\n)\n"


@dataclass(frozen=True)
class HostOptions:
    """The options that tell a start method its nodes, and the file that they name, if any."""

    flags: tuple[str, ...]
    files: Mapping[Path, str] = field(default_factory=dict)


def host_options(names: str, listed: Sequence[str], lines: Sequence[str], option: str, file: Path) -> HostOptions:
    """The nodes as one argument, or as a file where the argument is too long for the kernel.

    Args:
        names: the option that takes the list.
        listed: the entries of the list.
        lines: the lines of the file.
        option: the option that takes the file.
        file: where the file is to be.
    """
    text = ",".join(listed)
    if len(text) <= LONGEST_ARGUMENT:
        return HostOptions((names, text))
    return HostOptions((option, str(file)), {file: "".join(f"{line}\n" for line in lines)})


# MPI polls while it waits, and Horovod's thread waits on the cores that TensorFlow computes on. Measured: a step of 2
# ranks with a core each took 1.3 times as long while they polled. Open MPI and Intel MPI; MPICH yields by itself.
YIELDING = {"OMPI_MCA_mpi_yield_when_idle": "1", "I_MPI_THREAD_YIELD": "2"}

# A Python program that dies of a signal such as SIGSEGV first prints where its threads were.
FAULT_TRACES = {"PYTHONFAULTHANDLER": "1"}


def rank_argv(job: RankProgram, facts: MachineFacts) -> tuple[str, ...]:
    """The rank wrapper's command, which every start method starts once per process."""
    return (facts.python, "-m", "saman.launcher.rank", str(job.run), "--", *job.command)


def common_environment(placement: Placement, job: RankProgram, facts: MachineFacts, starter: str) -> dict[str, str]:
    """Variables that a start method gives to every process.

    Args:
        placement: the process, node and cores of each rank.
        job: the program of the ranks, and its own variables.
        facts: the machine; its network interfaces are set for MPI, Gloo and NCCL.
        starter: the name of the start method.
    """
    return {
        **network_variables(facts.interfaces),
        **YIELDING,
        **FAULT_TRACES,
        **job.environment,
        variables.RUN: str(job.run),
        variables.ATTEMPT: str(job.attempt),
        variables.STARTER: starter,
        variables.SIZE: str(placement.size),
        variables.PROCESSES: str(len(placement.processes)),
    }


def gloo_environment(job: RankProgram) -> dict[str, str]:
    """Variables of a starter other than horovodrun: the rank wrapper finds Horovod's rendezvous by them."""
    return {variables.RENDEZVOUS: str(job.rendezvous_file)}


def elastic_environment(placement: Placement, job: RankProgram) -> dict[str, str]:
    """Variables of an elastic start: its ranks find each other through the supervisor's authority."""
    return {
        variables.MEMBERSHIP: str(job.rendezvous_file),
        variables.NODES_OF_SLOTS: ",".join(process.node for process in placement.processes),
        variables.REPLACES: "0",
        variables.LARGEST_WORLD: str(job.elastic),
    }


def rendezvous(placement: Placement, job: RankProgram, facts: MachineFacts) -> Command:
    """The start of Horovod's rendezvous server, for start methods other than horovodrun.

    Args:
        placement: the process and node of each rank.
        job: the program of the ranks; its run folder receives the server's port.
        facts: the machine; its Python runs the server.
    """
    slots = [f"{node}:{count}" for node, count in placement.processes_per_node().items()]
    address = "127.0.0.1" if len(slots) == 1 else facts.address
    bind = [] if address is None else ["--bind", address]
    argv = (facts.python, "-m", "saman.trainers.rendezvous", "--port-file", str(job.rendezvous_file), *bind, *slots)
    return Command(argv, {variables.RUN: str(job.run), variables.ATTEMPT: str(job.attempt)})


# What takes a list; the others take one name.
_LISTS = (
    "OMPI_MCA_btl_tcp_if_include",
    "OMPI_MCA_oob_tcp_if_include",
    "PRTE_MCA_prte_if_include",
    "NCCL_SOCKET_IFNAME",
)
_SINGLE = ("HYDRA_IFACE", "I_MPI_HYDRA_IFACE", "HOROVOD_GLOO_IFACE", "GLOO_SOCKET_IFNAME")


def network_variables(interfaces: Sequence[str]) -> dict[str, str]:
    """Variables of the starters that bind Open MPI 4 and 5, Hydra, Gloo and NCCL to network interfaces.

    Open MPI and NCCL use all of them, Gloo and Hydra's control connections the first.
    """
    if not interfaces:
        return {}
    return {**dict.fromkeys(_LISTS, ",".join(interfaces)), **dict.fromkeys(_SINGLE, interfaces[0])}
