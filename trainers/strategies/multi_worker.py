"""tf.distribute over several processes, each with several devices; saman writes TF_CONFIG."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.runs.events import EventKind
from saman.runs.folder import RunFolder
from saman.runs.ranks.interfaces import own_addresses, resolve
from saman.runs.tf_cluster.addresses import agree_on_ports, endpoints, meeting_folder, sources_of
from saman.runs.tf_cluster.port_gate import LOOPBACK, PortGate
from saman.runs.tf_cluster.roles import tf_config
from saman.trainers.identity import WorkerIdentity, identify_worker
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.distributed import DistributedStrategy


def start(experiment: Experiment, run: RunFolder) -> DistributedStrategy:
    """Start the multi-worker strategy: agree on ports with the other workers, then join them.

    Raises:
        EnvironmentLack: A worker does not answer in time.
    """
    me = identify_worker(os.environ, experiment)
    gpus = experiment.resources.gpus_per_rank
    claim(me.ranks_here, gpus, me.process.process)
    gate, workers = agree_on_ports(meeting_folder(run, me.attempt, os.environ), me.process, os.environ)
    sources = sources_of(workers, resolve)
    gate.guard(sources)
    os.environ["TF_CONFIG"] = json.dumps(tf_config(endpoints(workers), me.process.process))
    os.environ["TF_GRPC_REUSE_PORT"] = "1"  # TensorFlow listens on the port behind the gate
    implementation = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=implementation.NCCL if gpus else implementation.RING
    )
    with _cpu_devices(0 if gpus else me.ranks_here):
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    note_open_port(run, me, gate, sources)
    return DistributedStrategy("multi_worker", strategy, me.ranks, gate)


def note_open_port(run: RunFolder, me: WorkerIdentity, gate: PortGate, sources: Sequence[str]) -> None:
    """Record a notice if strangers can reach the strategy's gRPC server, which listens now."""
    if not keeps_strangers_out(gate, sources):
        who = f"rank {me.first_rank}"
        text = f"{who}: this system cannot restrict TensorFlow's gRPC port {gate.port}; see docs/security.md"
        run.append(EventKind.NOTICE, who, me.attempt or None, text=text)


def keeps_strangers_out(gate: PortGate, sources: Sequence[str]) -> bool:
    """Whether the strategy's gRPC server, which listens now, is out of reach from addresses that are no worker's."""
    here = [address for address in own_addresses() if address not in sources]
    strange = here[:1] if LOOPBACK in sources else ["127.0.0.1"]
    return gate.guarded and all(gate.refuses(address) for address in strange)


@contextmanager
def _cpu_devices(count: int) -> Iterator[None]:
    """Let TensorFlow give a CPU worker ``count`` devices; by default it uses a single device."""
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    original = CollectiveAllReduceExtended._initialize_local_devices

    def devices(extended: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker}/device:CPU:{index}" for index in range(count)), "CPU"

    if count > 1:
        CollectiveAllReduceExtended._initialize_local_devices = devices
    try:
        yield
    finally:
        CollectiveAllReduceExtended._initialize_local_devices = original
