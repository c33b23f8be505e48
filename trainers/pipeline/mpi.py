"""Transport over MPI point-to-point messages (mpi4py), for ranks started by MPI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saman.trainers.pipeline.network.frames import empty_array

_MOST_AXES = 8  # of a tensor


class MpiTransport:
    """A ``Transport`` with non-blocking sends; it holds their buffers until MPI has sent them."""

    def __init__(self, ranks: Mapping[int, int]) -> None:
        """Join the other ranks: a collective call. ``ranks`` maps each neighbouring stage to its MPI rank."""
        from mpi4py import MPI

        self._mpi: Any = MPI
        # Horovod uses its own communicator, from its own thread.
        self._comm = MPI.COMM_WORLD.Dup()
        self._ranks = dict(ranks)
        self._under_way: list[tuple[Any, Any]] = []

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Start to send a message; its buffers are kept until MPI has sent them."""
        self._under_way = [(request, buffer) for request, buffer in self._under_way if not request.Test()]
        rank = self._ranks[stage]
        for buffer in (_header(arrays), *(_flat(array) for array in arrays if array.size)):
            self._under_way.append((self._comm.Isend([buffer, self._mpi.BYTE], rank, tag), buffer))

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for a message: its header first, then each array."""
        rank = self._ranks[stage]
        status = self._mpi.Status()
        self._comm.Probe(rank, tag, status)
        header = np.empty(status.Get_count(self._mpi.BYTE), np.uint8)
        self._comm.Recv([header, self._mpi.BYTE], rank, tag)
        arrays = [empty_array(shape, dtype) for dtype, shape in _specs(header)]
        for array in arrays:
            if array.size:
                self._comm.Recv([_flat(array), self._mpi.BYTE], rank, tag)
        return arrays

    def close(self) -> None:
        """Wait until every message has left."""
        for request, _ in self._under_way:
            request.Wait()
        # MPI_Finalize frees the communicator. When a rank shuts Horovod down, Horovod finalises MPI on all ranks from
        # its own thread; freeing the communicator meanwhile would be a segmentation fault.


def _flat(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _header(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return a row for each array: 16 bytes of dtype name, the number of axes, the sizes."""
    rows = np.zeros(len(arrays), _ROW)
    for row, array in zip(rows, arrays, strict=True):
        row["dtype"], row["axes"] = array.dtype.name.encode(), array.ndim
        row["shape"][: array.ndim] = array.shape
    return rows.view(np.uint8)


def _specs(header: np.ndarray) -> list[tuple[np.dtype, tuple[int, ...]]]:
    return [
        (np.dtype(bytes(row["dtype"]).decode()), tuple(int(size) for size in row["shape"][: row["axes"]]))
        for row in header.view(_ROW)
    ]


_ROW = np.dtype([("dtype", "S16"), ("axes", np.int64), ("shape", np.int64, (_MOST_AXES,))])
