"""Horovod's ranks in worlds that change: survivors keep their process and connect anew over Gloo.

``hvd.shutdown`` and ``hvd.init`` in the same process; graphs stay as they are, because they mention neither rank nor
size. Horovod's own driver is not used: the authority in the supervisor decides who is in a world.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.runs import variables
from saman.runs.elastic.messages import MemberReport, ReportKind, World
from saman.runs.elastic.spare_priority import set_session_priority
from saman.runs.folder import RunFolder
from saman.runs.ranks.identity import identify
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import plan_exchange
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.horovod import BUCKET_BYTES, HorovodStrategy, import_horovod
from saman.trainers.strategies.member import Member, connect


class ElasticHorovod(HorovodStrategy):
    """Ranks are Horovod's, in one world after the other.

    Before the first world, and between worlds, ``size``, ``ranks`` and ``chief`` are those of the plan.

    Attributes:
        slot: The number that this process keeps in every world.
        joins_later: Whether this process joins others that train: it replaces a rank, or is a warm spare.
    """

    name = "elastic"

    def __init__(self, hvd: Any, member: Member, slot: int, size: int, nodes: Sequence[str]) -> None:
        self._hvd, self._member, self._nodes = hvd, member, nodes
        self.slot, self.size, self.chief = slot, size, slot == 0
        self.ranks: tuple[int, ...] = (slot % size,)  # a warm spare rehearses with the slice of a rank
        self.joins_later = os.environ.get(variables.REPLACES, "0") != "0" or slot >= size
        self._groups = 0

    def combine(self, tensors: Sequence[Any], purpose: str = "combine") -> list[Any]:
        """Return Σ over all ranks, in buckets of ``BUCKET_BYTES``; nothing is applied before all have arrived."""
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        summed: list[Any] = [None] * len(dense)
        for number, places in enumerate(plan_exchange(dense, BUCKET_BYTES)):
            # Ranks that joined later have traced other graphs before: names must not count what was traced.
            name = f"saman.{purpose}.{number}"
            group = self._hvd.grouped_allreduce([dense[place] for place in places], op=self._hvd.Sum, name=name)
            for place, tensor in zip(places, group, strict=True):
                summed[place] = tensor
        with tf.control_dependencies(summed):
            return [tf.identity(tensor) for tensor in summed]

    @property
    def must_leave(self) -> bool:
        """Whether the authority has ended the world of this process."""
        return self._member.must_leave

    def await_world(self) -> World | None:
        """Wait for the next world; ``None`` if the run is over."""
        world = self._member.await_world()
        if self.joins_later:
            set_session_priority(0)  # a warm spare has left the cores to the others
        return world

    def form(self, world: World) -> None:
        """Connect to the members of a world."""
        rank = world.slots.index(self.slot)
        address = self._member.address
        os.environ |= world_variables([self._nodes[slot] for slot in world.slots], rank) | {
            # Horovod asks http://ADDR:PORT/scope/key, and has no other place for a secret and a generation.
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": f"{address.host}:{address.port}/{address.token}/{world.generation}",
            "HOROVOD_GLOO_RENDEZVOUS_PORT": str(address.port),
        }
        with self._member.connecting():
            self._hvd.init()
        self.size, self.ranks, self.chief = len(world.slots), (rank,), rank == 0
        self.report(ReportKind.FORMED)

    def form_alone(self) -> None:
        """Form a world of this process alone, to rehearse a step."""
        for name in ("HOROVOD_GLOO_RENDEZVOUS_ADDR", "HOROVOD_GLOO_RENDEZVOUS_PORT"):
            os.environ.pop(name, None)
        os.environ |= world_variables([self._nodes[self.slot]], 0)
        self._hvd.init()

    def dissolve(self) -> None:
        """Leave the world, whether or not its other members live."""
        self._member.disconnect()
        self._hvd.shutdown()

    def report(self, kind: ReportKind, step: int = 0, epoch: int = 0, position: str = "") -> None:
        """Report to the authority."""
        self._member.report(kind, step, epoch, position)

    def on_stuck(self, progress: Callable[[], MemberReport], save: Callable[[], None]) -> None:
        """Say how another thread learns what this process holds, and saves it, while this one waits for a world."""
        self._member.progress, self._member.save = progress, save

    def leave_run(self) -> None:
        """Tell the authority that the run is over; peers may disappear from now on."""
        self._member.leave_run()

    def close(self) -> None:
        """Leave Horovod, without waiting for anybody."""
        self.dissolve()


def world_variables(nodes: Sequence[str], rank: int) -> dict[str, str]:
    """Return the variables by which Horovod knows its place in a world.

    Args:
        nodes: The node of each rank.
        rank: The rank of this process.

    >>> found = world_variables(["a", "b", "a"], 2)
    >>> [found[f"HOROVOD_{name}"] for name in ("LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE")]
    ['1', '2', '0', '1']
    """
    local_ranks = [nodes[:place].count(node) for place, node in enumerate(nodes)]
    peers = [node for node, local in zip(nodes, local_ranks, strict=True) if local == local_ranks[rank]]
    values = {
        "RANK": rank,
        "SIZE": len(nodes),
        "LOCAL_RANK": local_ranks[rank],
        "LOCAL_SIZE": nodes.count(nodes[rank]),
        "CROSS_RANK": peers.index(nodes[rank]),
        "CROSS_SIZE": len(peers),
    }
    return {f"HOROVOD_{name}": str(value) for name, value in values.items()}


def start(experiment: Experiment, run: RunFolder) -> ElasticHorovod:
    """Connect to the authority; the first world is formed when this process is ready to train.

    Args:
        experiment: The experiment.
        run: The run folder.

    Raises:
        EnvironmentLack: Horovod is missing, or the authority cannot be reached.
    """
    size, slot = int(os.environ[variables.LARGEST_WORLD]), identify(os.environ).process
    member = connect(Path(os.environ[variables.MEMBERSHIP]), slot)
    hvd = import_horovod()
    nodes = os.environ[variables.NODES_OF_SLOTS].split(",")
    claim(1, experiment.resources.gpus_per_rank, nodes[:slot].count(nodes[slot]))
    return ElasticHorovod(hvd, member, slot, size, nodes)
