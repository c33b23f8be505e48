"""Addresses for TF_CONFIG: processes agree on free ports through the run folder, so that no port is fixed.

Each process binds a free port, publishes its address, and keeps the port bound while TensorFlow listens on it as well
(SO_REUSEPORT), so that no other process can take it, and a gate stands before it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs import variables
from saman.runs.files.whole import read_json, write_json
from saman.runs.folder import RunFolder
from saman.runs.paths.attempt import port_file
from saman.runs.ranks.identity import ProcessIdentity
from saman.runs.ranks.interfaces import own_addresses
from saman.runs.tf_cluster.port_gate import LOOPBACK, PortGate

WAIT_SECONDS = 300.0
# Variables that all processes of a start share and that differ between starts, as the starters call them.
_START_VARIABLES = (
    "PMIX_NAMESPACE",
    "OMPI_MCA_ess_base_jobid",
    "PMI_JOBID",
    "HOROVOD_GLOO_RENDEZVOUS_PORT",
    "SLURM_STEP_ID",
)


@dataclass(frozen=True)
class WorkerAddress:
    """Where a process listens: the name of its host, the address for other hosts, its port, and whence it connects.

    A coordinator has a second port, ``farewell``, at which the others learn its end if they know ``token``.
    """

    host: str
    address: str
    port: int
    sources: tuple[str, ...] = ()
    farewell: int = 0
    token: str = ""


def endpoints(workers: Sequence[WorkerAddress]) -> list[str]:
    """Return ``host:port`` of each worker, with the loopback's address if all are on the same host.

    >>> endpoints([WorkerAddress("n1", "10.0.0.1", 4000), WorkerAddress("n2", "10.0.0.2", 4001)])
    ['10.0.0.1:4000', '10.0.0.2:4001']
    """
    here = on_one_host(workers)
    return [f"{'127.0.0.1' if here else worker.address}:{worker.port}" for worker in workers]


def on_one_host(workers: Sequence[WorkerAddress]) -> bool:
    """Whether all workers run on the same host."""
    return len({worker.host for worker in workers}) == 1


def sources_of(workers: Sequence[WorkerAddress], lookup: Callable[[str], Iterable[str]] = lambda name: ()) -> list[str]:
    """Return the addresses and networks from which the workers connect to each other.

    Args:
        workers: The workers.
        lookup: Resolves a name on this host. Where the name of a worker means the loopback, connections to it come from
            there: containers that share a network, and hosts that call themselves 127.0.1.1.

    >>> sources_of([WorkerAddress("n1", "n1", 4000, ("10.0.0.1",)), WorkerAddress("n2", "n2", 4001, ("10.0.0.2",))])
    ['10.0.0.1', '10.0.0.2']
    """
    if on_one_host(workers):
        return [LOOPBACK]
    found = [source for worker in workers for source in (*worker.sources, *lookup(worker.address))]
    networks = ([LOOPBACK, "::1"] if ip_address(source).is_loopback else [source] for source in found)
    return list(dict.fromkeys(source for sources in networks for source in sources))


def meeting_folder(run: RunFolder, attempt: int, environment: Mapping[str, str]) -> Path:
    """Return the folder where the workers of a TF_CONFIG cluster publish their addresses.

    Args:
        run: The run folder.
        attempt: The number of the attempt; 0 for processes that were started by hand.
        environment: The variables of this process; they identify a start by hand.
    """
    if attempt:
        return run.attempt(attempt).ports
    started_by_hand = next((environment[name] for name in _START_VARIABLES if name in environment), str(os.getppid()))
    return run.ports_of_start(started_by_hand)


def agree_on_ports(
    folder: Path,
    me: ProcessIdentity,
    environ: Mapping[str, str],
    wait_seconds: float = WAIT_SECONDS,
    farewell: tuple[int, str] = (0, ""),
) -> tuple[PortGate, list[WorkerAddress]]:
    """Publish the address of a strategy's worker for TF_CONFIG and wait for those of all workers.

    Args:
        folder: A folder on a file system that all workers share.
        me: The identity of this process.
        environ: The variables of this process, with this node's address in the network of the run.
        wait_seconds: How long to wait for the other workers.
        farewell: Of a coordinator: the port at which the others learn its end, and the token that they must know.

    Returns:
        The gate before this worker's port, which is open to nobody yet, and the addresses of all workers in order.

    Raises:
        EnvironmentLack: A worker did not publish its address in time.
    """
    gate = PortGate()
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    address = environ.get(variables.ADDRESS, host)
    mine = WorkerAddress(host, address, gate.port, own_addresses(address), *farewell)
    write_json(port_file(folder, me.process), asdict(mine), private=True)
    deadline = time.monotonic() + wait_seconds
    while True:
        published = [_read(port_file(folder, process)) for process in range(me.processes)]
        missing = [process for process, worker in enumerate(published) if worker is None]
        if not missing:
            return gate, [worker for worker in published if worker is not None]
        if time.monotonic() > deadline:
            gate.close()
            raise EnvironmentLack(
                f"workers {missing} did not publish their ports within {wait_seconds:.0f} s",
                where=str(folder),
                remedy="put the run folder on a file system that all workers share",
            )
        time.sleep(0.02)


def _read(file: Path) -> WorkerAddress | None:
    value = read_json(file)
    if value is None:
        return None
    sources, farewell = tuple(value.get("sources", ())), (value.get("farewell", 0), value.get("token", ""))
    return WorkerAddress(value["host"], value["address"], value["port"], sources, *farewell)
