"""Several devices of a single process: GPUs, logical CPU devices, or the cores of a TPU.

``mirrored`` keeps a copy of the variables on every device; ``central_storage`` keeps a single copy on the host.
"""

from __future__ import annotations

import os
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.identity import world_size
from saman.trainers.keras_compat import KERAS_2, tf
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.distributed import DistributedStrategy


def start(experiment: Experiment, run: RunFolder) -> DistributedStrategy:
    """Put a replica on each device.

    Raises:
        EnvironmentLack: The machine lacks the devices, or this Keras cannot use them so.
    """
    name, ranks = experiment.train.strategy, world_size(os.environ, experiment)
    if name == "tpu":
        strategy = _tpu(ranks)
    else:
        devices = claim(ranks, experiment.resources.gpus_per_rank)
        make = _central_storage if name == "central_storage" else _mirrored
        strategy = make(devices, bool(experiment.resources.gpus_per_rank))
    return DistributedStrategy(name, strategy, tuple(range(ranks)))


def _mirrored(devices: list[str], gpus: bool) -> Any:
    # NCCL on GPUs; on CPUs the first device adds.
    across = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=across)


def _central_storage(devices: list[str], gpus: bool) -> Any:
    if KERAS_2:
        remedy = "TensorFlow 2.16 or newer, or train.strategy: mirrored"
        raise EnvironmentLack("central_storage needs Keras 3", where="train.strategy", remedy=remedy)
    return tf.distribute.experimental.CentralStorageStrategy(devices, parameter_device="/device:CPU:0")


def _tpu(ranks: int) -> Any:
    """Join the TPU that ``TPU_NAME`` names, or that of this machine."""
    remedy = "run on a machine with a TPU (a TPU VM, or TPU_NAME); mirrored and horovod train on GPUs and CPUs"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # the runtime reports a missing TPU in many ways
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise EnvironmentLack(f"no TPU was found: {reason}", where="train.strategy", remedy=remedy) from error
    if strategy.num_replicas_in_sync != ranks:
        raise EnvironmentLack(
            f"the TPU has {strategy.num_replicas_in_sync} cores, but the run has {ranks} ranks",
            where="resources.ranks_per_node",
            remedy=f"{strategy.num_replicas_in_sync}",
        )
    return strategy
