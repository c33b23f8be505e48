"""The devices of this process: GPUs where there are any, else logical CPU devices."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.trainers.keras_compat import tf


def claim(count: int, gpus_per_rank: int, local_rank: int = 0) -> list[str]:
    """Names of ``count`` devices of this process, ready for use; memory of GPUs grows with need.

    Where more GPUs are visible than this process needs, it takes those of its ``local_rank`` on the node.
    Raises ``EnvironmentLack`` where the experiment asks for GPUs that are not there.
    """
    gpus = tf.config.list_physical_devices("GPU") if gpus_per_rank else []
    if gpus_per_rank and len(gpus) < count:
        raise EnvironmentLack(
            f"{count} GPUs are needed in this process, but TensorFlow sees {len(gpus)}",
            where="resources.gpus_per_rank",
            remedy="saman doctor says what is missing; gpus_per_rank: 0 trains on CPUs",
        )
    if not gpus_per_rank:
        tf.config.set_visible_devices([], "GPU")
        return _logical_cpus(count)
    if len(gpus) > count:
        first = local_rank * count % len(gpus)
        gpus = gpus[first : first + count]
        tf.config.set_visible_devices(gpus, "GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{index}" for index in range(count)]


def _logical_cpus(count: int) -> list[str]:
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    return [f"CPU:{index}" for index in range(count)]
