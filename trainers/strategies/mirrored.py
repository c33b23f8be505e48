"""Several devices of one process: GPUs, or logical CPU devices."""

from __future__ import annotations

import os

from saman.configs.schemas.experiment import Experiment
from saman.runs import variables
from saman.runs.folder import RunFolder
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.distributed import Distributed


def start(experiment: Experiment, run: RunFolder) -> Distributed:
    """One replica on each device."""
    ranks = int(os.environ.get(variables.SIZE, experiment.resources.ranks))
    devices = claim(ranks, experiment.resources.gpus_per_rank)
    # NCCL where there are GPUs; on CPUs the sum is made on the first device.
    across = None if experiment.resources.gpus_per_rank else tf.distribute.ReductionToOneDevice()
    strategy = tf.distribute.MirroredStrategy(devices, cross_device_ops=across)
    return Distributed("mirrored", strategy, tuple(range(ranks)))
