"""Several devices of a single process: GPUs, or logical CPU devices."""

from __future__ import annotations

import os

from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.identity import world_size
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.distributed import DistributedStrategy


def start(experiment: Experiment, run: RunFolder) -> DistributedStrategy:
    """Put a replica on each device."""
    ranks = world_size(os.environ, experiment)
    devices = claim(ranks, experiment.resources.gpus_per_rank)
    # NCCL on GPUs; on CPUs the first device adds.
    across = None if experiment.resources.gpus_per_rank else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=across)
    return DistributedStrategy("mirrored", strategy, tuple(range(ranks)))
