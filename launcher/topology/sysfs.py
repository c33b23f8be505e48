"""Reads a node's topology from the files of the kernel (sysfs)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from saman.launcher.topology.model import Topology, parse_list

_AMD = "0x1002"  # PCI vendor


def read_sysfs(root: Path = Path("/sys")) -> Topology:
    """The NUMA domains, and the GPUs and RDMA adapters with theirs; empty where the kernel reports none.

    GPUs are numbered in the order of their PCI addresses, as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID, and ROCm.
    """
    cores = {
        int(folder.name.removeprefix("node")): parse_list(_text(folder / "cpulist"))
        for folder in sorted(root.glob("devices/system/node/node[0-9]*"))
    }
    devices = sorted({path.resolve() for path in _gpus(root)}, key=lambda path: path.name)
    gpus = {str(index): domain for index, path in enumerate(devices) if (domain := _domain(path)) is not None}
    adapters = {
        path.name: domain
        for path in sorted(root.glob("class/infiniband/*"))
        if (domain := _domain(path / "device")) is not None
    }
    return Topology(cores, gpus, adapters)


def _gpus(root: Path) -> Iterator[Path]:
    """The PCI devices of GPUs for computation: of NVIDIA's driver, and AMD's of the kernel's render devices."""
    yield from root.glob("bus/pci/drivers/nvidia/*:*:*.*")
    for card in root.glob("class/drm/renderD*"):
        if _text(card / "device/vendor") == _AMD:
            yield card / "device"


def _domain(device: Path) -> int | None:
    text = _text(device / "numa_node")
    return int(text) if re.fullmatch(r"\d+", text) else None  # -1: the firmware does not say


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
