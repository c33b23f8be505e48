"""Looks at this node's topology: the kernel's files, and nvidia-smi or lstopo where they are installed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saman.launcher.topology import hwloc, nvidia_smi
from saman.launcher.topology.model import Topology, merged
from saman.launcher.topology.sysfs import read_sysfs
from saman.runs.commands import COMMAND_ERRORS, run_command

_SECONDS = 20.0


def this_topology(visible: Sequence[str] = (), root: Path = Path("/sys")) -> Topology:
    """The topology of this node, as far as it is known.

    Args:
        visible: the GPUs that this process may use, by name; without any, no tool is asked for their places.
        root: where sysfs is mounted.
    """
    kernel = read_sysfs(root)
    if not visible or len(kernel.cores) < 2:
        return kernel
    # nvidia-smi sees the GPUs of the job and numbers them as CUDA does; the kernel and lstopo see all of the node.
    nvidia = nvidia_smi.parse_topology(_output("nvidia-smi", "topo", "-m"))
    if nvidia.gpus:
        return merged([Topology(kernel.cores, adapters=kernel.adapters), nvidia])
    everything = merged([kernel, hwloc.parse_xml(_output("lstopo-no-graphics", "--of", "xml"))])
    return everything if set(everything.gpus) == set(visible) else replace(everything, gpus={})


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = run_command(command, timeout_seconds=_SECONDS)
    except COMMAND_ERRORS:
        return ""
    return done.stdout if done.returncode == 0 else ""
