"""Seconds per message between two ranks: mpi4py, our TCP sockets, and Horovod broadcasts in a TensorFlow graph.

    mpirun -np 2 python benchmarks/pipeline/transport.py
    horovodrun --gloo -np 2 python benchmarks/pipeline/transport.py        (without MPI, mpi4py is left out)

Each cell holds two figures: half a round trip of an array, from TensorFlow tensor to TensorFlow tensor, as the median
over rounds; and the processor time of both ranks per message, which is high for a rank that polls while it waits.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Any

import horovod.tensorflow as hvd
import numpy as np

from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.mpi import MpiTransport
from saman.trainers.pipeline.network.listener import Address, Listener
from saman.trainers.pipeline.sockets import SocketTransport, meet

SIZES = (4 << 10, 256 << 10, 1 << 20, 16 << 20)


def sockets(rank: int) -> SocketTransport:
    listener = Listener()
    told = np.frombuffer(listener.address.to_bytes(), np.uint8)
    everybody = hvd.allgather(tf.constant(told[None])).numpy()
    secret = hvd.broadcast(tf.constant(np.frombuffer(secrets.token_bytes(32), np.uint8)), 0).numpy().tobytes()
    before = (0, Address.from_bytes(everybody[0].tobytes())) if rank else None
    return SocketTransport(meet(listener, secret, rank, before, None if rank else 1))


def by_messages(transport: Any, rank: int) -> Callable[[Any], Any]:
    def round_trip(tensor: Any) -> Any:
        other = 1 - rank
        if rank == 0:
            transport.send(other, 0, [np.asarray(memoryview(tensor))])
        got = tf.convert_to_tensor(transport.receive(other, 0)[0])
        if rank == 1:
            transport.send(other, 0, [np.asarray(memoryview(got))])
        return got

    return round_trip


def by_broadcasts() -> Callable[[Any], Any]:
    @tf.function(autograph=False)
    def round_trip(tensor: Any) -> Any:
        there = hvd.broadcast(tensor, 0, name="there")
        with tf.control_dependencies([there]):
            return hvd.broadcast(there, 1, name="back")

    return round_trip


def measure(round_trip: Callable[[Any], Any], size: int) -> tuple[float, float]:
    tensor = tf.random.normal([size // 4])
    for _ in range(5):
        round_trip(tensor)
    rounds = 20 if size > 4 << 20 else 60
    seconds, began = [], time.process_time()
    for _ in range(rounds):
        start = time.perf_counter()
        round_trip(tensor)
        seconds.append((time.perf_counter() - start) / 2)
    used = hvd.allreduce(tf.constant((time.process_time() - began) / rounds / 2, tf.float64), op=hvd.Sum)
    return statistics.median(seconds), float(used)


def main() -> None:
    hvd.init()
    rank = hvd.rank()
    ways = {"sockets": by_messages(sockets(rank), rank), "Horovod broadcasts": by_broadcasts()}
    if hvd.mpi_enabled():
        ways["mpi4py"] = by_messages(MpiTransport({1 - rank: 1 - rank}), rank)
    if rank == 0:
        over = "MPI" if hvd.mpi_enabled() else "Gloo"
        print(f"| over {over} | " + " | ".join(f"{size >> 10} KiB: ms, CPU ms" for size in SIZES) + " |")
        print("|---|" + "---|" * len(SIZES))
    for name, round_trip in ways.items():
        cells = [measure(round_trip, size) for size in SIZES]
        if rank == 0:
            print(f"| {name} | " + " | ".join(f"{wall * 1e3:.2f}, {used * 1e3:.2f}" for wall, used in cells) + " |")
    hvd.shutdown()


if __name__ == "__main__":
    main()
