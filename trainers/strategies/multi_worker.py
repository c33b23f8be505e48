"""tf.distribute over several processes, each with one or more devices; TF_CONFIG is written by us."""

from __future__ import annotations

import json
import os
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.identity import identity
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.distributed import Distributed
from saman.trainers.strategies.tf_config import agree_on_ports, meeting_place, tf_config


def start(experiment: Experiment, run: RunFolder) -> Distributed:
    """Agree on ports with the other workers, then join them.

    Raises ``EnvironmentLack`` where a worker does not answer in time.
    """
    me = identity(os.environ, experiment.devices_per_process, experiment.resources.ranks)
    gpus = experiment.resources.gpus_per_rank
    claim(me.ranks_here, gpus, me.process)
    held, workers = agree_on_ports(meeting_place(run, me, os.environ), me)
    os.environ["TF_CONFIG"] = json.dumps(tf_config(workers, me.process))
    os.environ["TF_GRPC_REUSE_PORT"] = "1"  # TensorFlow listens on the port that we hold until it does
    across = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=across.NCCL if gpus else across.RING)
    with _several_cpus(0 if gpus else me.ranks_here):
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    held.close()
    return Distributed("multi_worker", strategy, me.ranks)


class _several_cpus:  # noqa: N801  (a context manager)
    """TensorFlow gives a CPU worker one device, whatever its logical devices; meanwhile it gets ``count``."""

    def __init__(self, count: int) -> None:
        from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

        self._count, self._class = count, CollectiveAllReduceExtended
        self._own = CollectiveAllReduceExtended._initialize_local_devices

    def __enter__(self) -> None:
        count = self._count

        def devices(extended: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
            return tuple(f"{worker}/device:CPU:{index}" for index in range(count)), "CPU"

        if count > 1:
            self._class._initialize_local_devices = devices

    def __exit__(self, *failure: object) -> None:
        self._class._initialize_local_devices = self._own
