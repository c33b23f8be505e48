"""Claims the devices of this process: GPUs, or logical CPU devices."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack
from saman.trainers.keras_compat import tf


def claim(count: int, gpus_per_rank: int, local_rank: int = 0) -> list[str]:
    """Prepare devices for this process; GPU memory grows as needed.

    Args:
        count: Number of devices.
        gpus_per_rank: 0 for logical CPU devices.
        local_rank: The process's number on its node; if more GPUs are visible than needed, it selects among them.

    Returns:
        The names of the devices.

    Raises:
        EnvironmentLack: TensorFlow sees fewer GPUs than needed.
    """
    gpus = tf.config.list_physical_devices("GPU") if gpus_per_rank else []
    if gpus_per_rank and len(gpus) < count:
        raise EnvironmentLack(
            f"this process needs {count} GPUs, but TensorFlow sees {len(gpus)}",
            where="resources.gpus_per_rank",
            remedy="see saman doctor; gpus_per_rank: 0 trains on CPUs",
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
