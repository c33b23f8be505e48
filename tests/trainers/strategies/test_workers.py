"""Ranks find their identity under every starter; workers agree on ports; failures are classified."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.experiment import Experiment
from saman.runs.ranks.identity import ProcessIdentity
from saman.trainers.failures import describe_failure, failure_kind
from saman.trainers.identity import WorkerIdentity, identify_worker
from saman.trainers.strategies.port_gate import PortGate
from saman.trainers.strategies.tf_config import WorkerAddress, agree_on_ports, endpoints, tf_config


def experiment(ranks: int) -> Experiment:
    """An experiment for ranks of a process each."""
    return Experiment.model_validate(
        {
            "name": "identity",
            "model": {"build": "mlp"},
            "data": {"source": "digits"},
            "train": {"strategy": "horovod", "global_batch_size": 24},
            "resources": {"ranks_per_node": ranks},
        }
    )


@pytest.mark.parametrize(
    ("environ", "process", "ranks"),
    [
        ({}, 0, (0,)),
        ({"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2", "OMPI_COMM_WORLD_RANK": "0"}, 1, (1,)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1, (1,)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1, (1,)),
        ({"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2", "SAMAN_RANKS_HERE": "2", "SAMAN_SIZE": "4"}, 1, (2, 3)),
    ],
)
def test_every_starter_is_understood(environ: dict[str, str], process: int, ranks: tuple[int, ...]) -> None:
    found = identify_worker(environ, experiment(2 if environ else 1))
    assert (found.process.process, found.ranks) == (process, ranks)


def test_a_wrong_number_of_processes_is_refused_with_the_right_one() -> None:
    with pytest.raises(UserError, match="start 4 processes"):
        identify_worker({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3"}, experiment(4))


def worker(process: int, processes: int) -> WorkerIdentity:
    """A process with a single rank."""
    return WorkerIdentity(
        process=ProcessIdentity(process, processes),
        first_rank=process,
        ranks_here=1,
        size=processes,
        node="n",
        attempt=1,
    )


def test_workers_agree_on_ports_that_nobody_can_take_meanwhile(tmp_path: Path) -> None:
    found: dict[int, tuple[PortGate, list[WorkerAddress]]] = {}

    def join(process: int) -> None:
        found[process] = agree_on_ports(tmp_path, worker(process, 3), 20)

    threads = [threading.Thread(target=join, args=(process,)) for process in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][1] == found[1][1] == found[2][1]
    ports = [worker.port for worker in found[0][1]]
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("", port))
    for held, _ in found.values():
        held.close()


def test_a_worker_that_never_comes_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLack, match=r"\[1\]"):
        agree_on_ports(tmp_path, worker(0, 2), 0.1)


def test_tf_config_names_hosts_only_across_machines() -> None:
    here = [WorkerAddress("a", "a", 1), WorkerAddress("a", "a", 2)]
    assert endpoints(here) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert endpoints([here[0], WorkerAddress("b", "10.0.0.2", 2)]) == ["a:1", "10.0.0.2:2"]
    assert tf_config(["a:1", "b:2"], 1)["task"] == {"type": "worker", "index": 1}


class UnknownError(Exception):
    """Has the name of TensorFlow's error."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (UserError("no"), "user_error"),
        (EnvironmentLack("no"), "user_error"),
        (ValueError("Connection reset by peer"), "error"),
        (ConnectionResetError("gone"), "peer_lost"),
        (UnknownError("Horovod has been shut down. This was caused by"), "peer_lost"),
        (UnknownError("the user's own"), "error"),
    ],
)
def test_the_loss_of_a_peer_is_told_from_an_own_failure(error: Exception, failure: str) -> None:
    assert failure_kind(error).value == failure


def test_a_message_is_one_line_that_names_the_error() -> None:
    assert describe_failure(ValueError("first\nsecond")) == "ValueError: first"
