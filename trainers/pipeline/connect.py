"""Connects the stages of a replica: threads of one process, MPI, or TCP sockets."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.network.listener import ADDRESS_BYTES, Address, listen_in_network
from saman.trainers.pipeline.sockets import SocketTransport, meet
from saman.trainers.pipeline.transport import Mailbox, ThreadTransport, Transport
from saman.trainers.strategies.pipeline import OneProcessPipelineStrategy, PipelineStrategy


def open_transports(strategy: PipelineStrategy | OneProcessPipelineStrategy, kind: str) -> list[Transport]:
    """Return a transport for each stage in this process; the strategy closes those that need it.

    Args:
        strategy: The grid of stages and replicas; all its ranks call this function together.
        kind: ``train.pipeline.transport``: ``mpi`` or ``sockets``.

    Raises:
        EnvironmentLack: ``mpi`` is requested, but the ranks were not started by MPI.
    """
    if isinstance(strategy, OneProcessPipelineStrategy):
        boxes = [Mailbox() for _ in range(strategy.stages)]
        return [ThreadTransport(stage, boxes) for stage in range(strategy.stages)]
    if strategy.stages == 1:
        return [ThreadTransport(0, [Mailbox()])]
    neighbours = [stage for stage in (strategy.stage - 1, strategy.stage + 1) if 0 <= stage < strategy.stages]
    transport = _open_mpi(strategy, neighbours) if kind == "mpi" else _open_sockets(strategy, neighbours)
    strategy.close_later(transport)
    return [transport]


def _open_mpi(strategy: PipelineStrategy, neighbours: Sequence[int]) -> Transport:
    from saman.trainers.pipeline.mpi import MpiTransport

    if not strategy.hvd.mpi_enabled():
        raise EnvironmentLack(
            "these ranks were not started by MPI",
            where="train.pipeline.transport",
            remedy="use sockets, or launch.with=mpirun",
        )
    first = strategy.replica * strategy.stages
    return MpiTransport({stage: first + stage for stage in neighbours})


def _open_sockets(strategy: PipelineStrategy, neighbours: Sequence[int]) -> Transport:
    """Publish this stage's address to all ranks, connect to the stage before, accept the stage behind."""
    hvd, listener = strategy.hvd, listen_in_network()
    secret = hvd.broadcast(tf.constant(np.frombuffer(secrets.token_bytes(32), np.uint8)), 0, name="saman.secret")
    mine = tf.constant(np.frombuffer(listener.address.to_bytes(), np.uint8)[np.newaxis])
    addresses = hvd.allgather(mine, name="saman.addresses").numpy()
    assert addresses.shape[1] == ADDRESS_BYTES
    first = strategy.replica * strategy.stages
    before = behind = None
    for stage in neighbours:
        if stage < strategy.stage:
            before = (first + stage, Address.from_bytes(addresses[first + stage].tobytes()))
        else:
            behind = first + stage
    connections = meet(listener, secret.numpy().tobytes(), first + strategy.stage, before, behind)
    listener.close()
    return SocketTransport({rank - first: connection for rank, connection in connections.items()})
