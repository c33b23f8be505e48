"""The variables of a rank's program: its identity, threads and network, the same under every start method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from saman.launcher.node.machine import gpu_variable
from saman.launcher.plan.placement import Process, Seat
from saman.launcher.rank.rendezvous import wait_for_rendezvous
from saman.runs import variables
from saman.runs.commands import is_python
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.identity import ProcessIdentity
from saman.runs.ranks.interfaces import interface_address
from saman.runs.records.rendezvous import RendezvousAddress


def program_environment(
    run: RunFolder,
    attempt: Attempt,
    own: Attempt,
    process: Process,
    seat: Seat | None,
    identity: ProcessIdentity,
    cores: int,
    gpus: tuple[str, ...] | None,
    command: Sequence[str] = (),
    adapter: str | None = None,
) -> dict[str, str]:
    """The environment in which the program of this process starts; waits for Horovod's rendezvous, if any.

    Args:
        run: the run folder.
        attempt: the files of the attempt.
        own: the folder in which the processes of this node write.
        process: this process in the placement.
        seat: its seat in the placement; ``None`` if the process was started by hand.
        identity: what the start method told this process.
        cores: the number of cores that this process is pinned to.
        gpus: the GPUs to make visible; ``None`` leaves the variable alone.
        command: the program and its arguments.
        adapter: the nearest RDMA adapter, if one is known.
    """
    environment = dict(os.environ)
    found = rank_variables(process, seat, identity, cores)
    # The cluster's network for TF_CONFIG too: a node's name may resolve to the slow network.
    interface = os.environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if variables.ADDRESS not in found and (address := interface_address(interface)) is not None:
        found[variables.ADDRESS] = address
    if gpus is not None:
        found[gpu_variable(os.environ)] = ",".join(gpus) or "-1"
    if run.is_script:
        environment.pop(variables.HEARTBEAT, None)
        environment.pop(variables.TELEMETRY, None)
        found |= import_variables(command, os.environ)
    else:
        found[variables.HEARTBEAT] = str(own.heartbeat(process.first_rank))
        found[variables.TELEMETRY] = str(own.telemetry(process.first_rank))
        found["PYTHONSAFEPATH"] = "1"  # a user's folder comes last on sys.path, so never first by "-m"
    if adapter is not None and os.environ.get(variables.NEAREST_ADAPTER) and "UCX_NET_DEVICES" not in environment:
        found["UCX_NET_DEVICES"] = f"{adapter}:1"
    rendezvous = os.environ.get(variables.RENDEZVOUS)
    if rendezvous and seat is not None:
        found |= horovod_variables(process, seat, wait_for_rendezvous(Path(rendezvous)))
    if os.environ.get(variables.MEMBERSHIP) and seat is not None:
        found |= gloo_variables(process, seat)
    found[variables.RUN], found[variables.ATTEMPT] = str(run.path), str(attempt.number)
    kept = user_variables(os.environ)
    return environment | {name: value for name, value in found.items() if name not in kept}


def import_variables(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables by which a rank's program imports the copy of its code, whatever folder it runs in. Pure.

    Args:
        command: the program and its arguments.
        environ: the variables of its wrapper; ``SAMAN_CODE_PATH`` names the copy.
    """
    code = environ.get(variables.CODE_PATH, "")
    if not code or code == environ.get(variables.DIRECTORY):
        return {}
    python = next((at for at, word in enumerate(command) if is_python(word)), None)
    by_module = python is not None and any(word in ("-m", "-c") for word in command[python + 1 : python + 4])
    paths = os.pathsep.join(filter(None, (code, environ.get("PYTHONPATH"))))
    # For -m and -c, Python would import from the working directory first.
    return {"PYTHONPATH": paths, **({"PYTHONSAFEPATH": "1"} if by_module else {})}


def rank_variables(process: Process, seat: Seat | None, identity: ProcessIdentity, cores: int) -> dict[str, str]:
    """The variables that the wrapper of a rank sets: the identity of the process and its number of threads.

    Args:
        process: this process in the placement.
        seat: its seat in the placement; ``None`` if the process was started by hand.
        identity: the identity that the start method gave this process.
        cores: number of cores that this process is pinned to; its ranks share them.
    """
    size = seat.size if seat else identity.processes
    ranks = process.ranks_here
    if seat is not None and not process.cores and any(each.cores for each in seat.here):
        cores = min(cores, process.threads)  # a spare process among pinned ranks
    own = {
        variables.PROCESS: str(process.index),
        variables.PROCESSES: str(identity.processes),
        variables.FIRST_RANK: str(process.first_rank),
        variables.RANKS_HERE: str(ranks),
        variables.SIZE: str(size),
        variables.NODE: process.node,
        variables.CORES_PER_RANK: str(max(1, cores // ranks)),
        "TF_NUM_INTRAOP_THREADS": str(cores),
        # Collectives of several devices in one process wait inside inter-op threads: each needs its own.
        "TF_NUM_INTEROP_THREADS": str(max(2, ranks)),
        "OMP_NUM_THREADS": str(cores),
    }
    if seat is not None and seat.nodes == 1:
        own[variables.ADDRESS] = "127.0.0.1"
    return own


def horovod_variables(process: Process, seat: Seat, server: RendezvousAddress) -> dict[str, str]:
    """The variables by which Horovod finds its peers over Gloo, as horovodrun sets them.

    Args:
        process: this process in the placement.
        seat: its seat in the placement.
        server: where the rendezvous server listens.
    """
    own = {
        "HOROVOD_RANK": str(process.index),
        "HOROVOD_SIZE": str(seat.processes),
        "HOROVOD_LOCAL_RANK": str(process.local_index),
        "HOROVOD_LOCAL_SIZE": str(len(seat.here)),
        "HOROVOD_CROSS_RANK": str(seat.node_index),
        "HOROVOD_CROSS_SIZE": str(seat.nodes),
        # Horovod asks http://ADDR:PORT/scope/key: with a path in ADDR, every request carries the token and a second,
        # meaningless port. Horovod has no other place for a secret.
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": f"{server.host}:{server.port}/{server.token}" if server.token else server.host,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(server.port),
    }
    return own | gloo_variables(process, seat)


def gloo_variables(process: Process, seat: Seat) -> dict[str, str]:
    """The variables by which a rank's Horovod uses Gloo, whatever the world of its ranks."""
    own = {"HOROVOD_HOSTNAME": process.node, "HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"}
    return own | ({"HOROVOD_GLOO_IFACE": "lo"} if seat.nodes == 1 else {})


def user_variables(environ: Mapping[str, str]) -> frozenset[str]:
    """Names of the user's variables (``launch.environment``), which override those of the wrapper of a rank."""
    return frozenset(environ.get(variables.GIVEN, "").split(","))
