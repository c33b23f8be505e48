"""Parameter servers: rank 0 coordinates, servers hold the variables, workers compute (Li et al., OSDI 2014).

    coordinator (rank 0) ──batch──► worker ──reads weights──► server
                                        └──gradients: to the server (asynchronous), or to the coordinator (synchronous)

``trainers/loop/parameter_server_step.py`` computes the steps. A worker may be lost: another takes its work over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.experiment import Experiment
from saman.runs import variables
from saman.runs.folder import RunFolder
from saman.runs.ranks.interfaces import resolve
from saman.runs.tf_cluster.addresses import WorkerAddress, agree_on_ports, endpoints, meeting_folder, sources_of
from saman.runs.tf_cluster.farewell import Farewell, wait_for_farewell
from saman.runs.tf_cluster.port_gate import PortGate
from saman.runs.tf_cluster.roles import Job, Roles, Task, tf_config
from saman.trainers.failures import PeerFailure
from saman.trainers.identity import WorkerIdentity, identify_worker
from saman.trainers.keras_compat import KERAS_2, tf
from saman.trainers.strategies.base import R, T
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.multi_worker import note_open_port


class ParameterServerStrategy:
    """The coordinator: the only process with a loop. Its ``ranks`` are the slices of a global batch.

    Attributes:
        workers: The number of workers.
        synchronous: Whether all workers share each step.
        coordinator: TensorFlow's ``ClusterCoordinator``.
    """

    name = "parameter_server"
    loops_in_graph = False
    chief = True

    def __init__(
        self, strategy: Any, workers: int, synchronous: bool, gate: PortGate | None = None, farewell: Any = None
    ) -> None:
        self._strategy, self.workers, self.synchronous = strategy, workers, synchronous
        self.coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        self.size = workers if synchronous else 1
        self.ranks: tuple[int, ...] = tuple(range(self.size))
        self._gate, self._farewell = gate, farewell

    def scope(self) -> AbstractContextManager[Any]:
        """Return tf.distribute's scope, which places the variables on the servers."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` in a replica, which Keras' optimisers need, where the graph runs."""
        return [self._strategy.run(lambda at=at: function(at, inputs[at])) for at in range(len(inputs))]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors: the coordinator adds up what workers return."""
        return list(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the values: there is no other loop."""
        return values

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Do nothing: every variable exists once."""

    def close(self) -> None:
        """Tell servers and workers that the run is over."""
        if self._farewell is not None:
            self._farewell.say()


def start(experiment: Experiment, run: RunFolder) -> ParameterServerStrategy | None:
    """Agree on ports with the other processes; coordinate them, or serve until the coordinator ends.

    Returns:
        The strategy of the coordinator; ``None`` on servers and workers, when the run is over.

    Raises:
        EnvironmentLack: A process does not answer in time, or this Keras cannot place its variables on servers.
        PeerFailure: The coordinator is gone.
    """
    if KERAS_2:
        remedy = "TensorFlow 2.16 or newer, or train.strategy: horovod"
        raise EnvironmentLack("parameter_server needs Keras 3", where="train.strategy", remedy=remedy)
    me, spec = identify_worker(os.environ, experiment), experiment.train.parameter_server
    assert spec is not None
    roles = Roles(chief=True, servers=spec.servers)
    task = roles.tasks(me.process.processes)[me.process.process]
    own = os.environ.get(variables.ADDRESS, "")
    farewell = Farewell(own if own.startswith("127.") else "") if task.job is Job.CHIEF else None
    told = (0, "") if farewell is None else (farewell.port, farewell.token)
    gate, found = agree_on_ports(meeting_folder(run, me.attempt, os.environ), me.process, os.environ, farewell=told)
    sources = sources_of(found, resolve)
    gate.guard(sources)
    os.environ["TF_GRPC_REUSE_PORT"] = "1"  # TensorFlow listens on the port behind the gate
    os.environ["GRPC_FAIL_FAST"] = "use_caller"  # a lost process is reported at once
    os.environ["TF_CONFIG"] = json.dumps(tf_config(endpoints(found), me.process.process, roles))
    # A worker that computes needs its devices; whoever holds or sends variables does with the CPU.
    claim(1, experiment.resources.gpus_per_rank if task.job is Job.WORKER else 0, me.process.process)
    if task.job is not Job.CHIEF:
        _serve(run, me, task, found, gate, sources)
        return None
    strategy = tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
    note_open_port(run, me, gate, sources)
    workers = spec.workers(me.process.processes)
    return ParameterServerStrategy(strategy, workers, spec.synchronous, gate, farewell)


def _serve(
    run: RunFolder, me: WorkerIdentity, task: Task, found: Sequence[WorkerAddress], gate: PortGate, sources: list[str]
) -> None:
    """Serve variables or computations until the coordinator ends."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=task.job.value, task_index=task.index, protocol="grpc", start=True
    )
    note_open_port(run, me, gate, sources)
    chief = found[0]
    host = endpoints(found)[0].rpartition(":")[0]
    if not wait_for_farewell(host, chief.farewell, chief.token):
        raise PeerFailure(f"{task}: the coordinator (rank 0) is gone")
    del server
