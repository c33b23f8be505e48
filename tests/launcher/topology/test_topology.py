"""What tools print of real nodes is understood. Every table was captured on a real machine and published."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.launcher.topology.hwloc import parse_xml
from saman.launcher.topology.look import this_topology
from saman.launcher.topology.model import parse_list
from saman.launcher.topology.nvidia_smi import parse_topology
from saman.launcher.topology.sysfs import read_sysfs

# Levante (DKRZ), 4 A100, from the run script of the ICON model: GPUs out of the order of their NUMA domains.
LEVANTE = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tmlx5_0\tmlx5_1\tCPU Affinity\tNUMA Affinity
GPU0\t X \tSYS\tSYS\tSYS\tSYS\tSYS\t48-63,176-191\t3
GPU1\tSYS\t X \tSYS\tSYS\tPIX\tSYS\t16-31,144-159\t1
GPU2\tSYS\tSYS\t X \tSYS\tSYS\tPIX\t112-127,240-255\t7
GPU3\tSYS\tSYS\tSYS\t X \tSYS\tSYS\t80-95,208-223\t5
mlx5_0\tSYS\tPIX\tSYS\tSYS\t X \tSYS
mlx5_1\tSYS\tSYS\tPIX\tSYS\tSYS\t X
"""
# A server with four L40, as its owner published it (driver 550): adapters by number, with a legend.
L40 = """\
\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNODE\tSYS\tSYS\tSYS\tSYS\t0-127,256-383\t0\t\tN/A
GPU1\tNODE\t X \tSYS\tSYS\tSYS\tSYS\t0-127,256-383\t0\t\tN/A
GPU2\tSYS\tSYS\t X \tNODE\tNODE\tNODE\t128-255,384-511\t1\t\tN/A
GPU3\tSYS\tSYS\tNODE\t X \tNODE\tNODE\t128-255,384-511\t1\t\tN/A
NIC0\tSYS\tSYS\tNODE\tNODE\t X \tPIX\t\t\t\t
NIC1\tSYS\tSYS\tNODE\tNODE\tPIX\t X \t\t\t\t

Legend:

  X    = Self
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node

NIC Legend:

  NIC0: mlx5_0
  NIC1: mlx5_1
"""
# A DGX-like server with V100 (driver 470), from OneFlow's benchmark reports: cells padded with several tabs.
V100 = """\
\t\tGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\tmlx5_0\tmlx5_1\tCPU Affinity    NUMA Affinity
GPU0\t X \t\tNV1\t    NV2\t    NV1\t \tSYS\t\tSYS\t\tSYS\t\tNV2\t\tNODE\tSYS\t\t0-23,48-71\t\t0
GPU3\tNV1\t\tNV2\t\tNV2\t\tX \t\tNV1\t\tSYS\t\tSYS\t\tSYS\t\tPIX\t\tSYS\t\t0-23,48-71\t\t0
GPU7\tNV2\t\tSYS\t\tSYS\t\tSYS\t\tNV1\t\tNV2\t\tNV1\t \tX \t\tSYS\t\tPIX\t\t24-47,72-95\t\t1
mlx5_0\tNODE\tNODE\tPIX\t\tPIX\t\tSYS\t\tSYS\t\tSYS\t\tSYS\t \tX \t\tSYS\t\t
"""
# The structure of hwloc 2's export of a node with two NUMA domains, a GPU and an adapter (its documentation).
HWLOC = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
 <object type="Machine" os_index="0" cpuset="0x000000ff" nodeset="0x00000003">
  <object type="Package" cpuset="0x0000000f" nodeset="0x00000001">
   <object type="NUMANode" os_index="0" cpuset="0x0000000f" nodeset="0x00000001"/>
   <object type="Bridge"><object type="PCIDev">
     <object type="OSDev" name="mlx5_0" osdev_type="3"/></object></object>
  </object>
  <object type="Package" cpuset="0x000000f0" nodeset="0x00000002">
   <object type="NUMANode" os_index="1" cpuset="0x000000f0" nodeset="0x00000002"/>
   <object type="Bridge"><object type="PCIDev">
     <object type="OSDev" name="card0" osdev_type="1"/><object type="OSDev" name="rsmi0" osdev_type="1"/>
   </object></object>
  </object>
 </object>
</topology>
"""


def test_gpus_out_of_the_order_of_their_numa_domains_are_placed() -> None:
    found = parse_topology(LEVANTE)
    assert dict(found.gpus) == {"0": 3, "1": 1, "2": 7, "3": 5}
    assert found.cores[7] == (*range(112, 128), *range(240, 256))
    assert found.links["1", "mlx5_0"] == "PIX" and found.links["0", "mlx5_1"] == "SYS"


def test_numbered_adapters_get_their_names_from_the_legend() -> None:
    found = parse_topology(L40)
    assert dict(found.gpus) == {"0": 0, "1": 0, "2": 1, "3": 1}
    assert {name for _, name in found.links} == {"mlx5_0", "mlx5_1"}
    assert found.links["2", "mlx5_1"] == "NODE"


def test_a_table_padded_with_several_tabs_is_read() -> None:
    found = parse_topology(V100)
    assert dict(found.gpus) == {"0": 0, "3": 0, "7": 1} and found.links["7", "mlx5_1"] == "PIX"


@pytest.mark.parametrize("text", ["", "No devices were found", "GPU0\n", "\tGPU0\tCPU Affinity\nGPU0\t X \t", "<xml/>"])
def test_other_text_is_no_topology(text: str) -> None:
    assert not parse_topology(text).gpus and not parse_xml(text).cores


def test_hwloc_s_export_names_domains_gpus_and_adapters() -> None:
    found = parse_xml(HWLOC)
    assert dict(found.cores) == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert dict(found.gpus) == {"0": 1} and dict(found.adapters) == {"mlx5_0": 0}
    assert not parse_xml('<!DOCTYPE a [<!ENTITY b "c">]><topology/>').cores


def sysfs(root: Path) -> Path:
    """A node with two NUMA domains, two AMD GPUs in the wrong order, and an adapter without a known domain."""
    for domain, cpus in ((0, "0-3"), (1, "4-7")):
        folder = root / f"devices/system/node/node{domain}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(cpus + "\n")
    for index, (address, domain) in enumerate((("0000:c1:00.0", 0), ("0000:09:00.0", 1))):
        device = root / f"devices/pci0000:00/{address}"
        device.mkdir(parents=True)
        (device / "vendor").write_text("0x1002\n")
        (device / "numa_node").write_text(f"{domain}\n")
        card = root / f"class/drm/renderD{128 + index}"
        card.mkdir(parents=True)
        (card / "device").symlink_to(device)
    (root / "class/infiniband/mlx5_0/device").mkdir(parents=True)
    (root / "class/infiniband/mlx5_0/device/numa_node").write_text("-1\n")
    return root


def test_the_kernel_s_files_are_read_gpus_in_the_order_of_their_addresses(tmp_path: Path) -> None:
    found = read_sysfs(sysfs(tmp_path))
    assert dict(found.cores) == {0: (0, 1, 2, 3), 1: (4, 5, 6, 7)}
    assert dict(found.gpus) == {"0": 1, "1": 0} and not found.adapters
    assert not read_sysfs(tmp_path / "nothing").cores


def test_gpus_that_a_job_does_not_have_in_full_are_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sysfs(tmp_path / "sys")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dict(this_topology(["0", "1"], root).gpus) == {"0": 1, "1": 0}
    assert not this_topology(["0"], root).gpus  # which of the two?


def test_a_list_of_the_kernel_is_read_or_refused() -> None:
    assert parse_list("0-2,8") == (0, 1, 2, 8)
    assert parse_list("N/A") == parse_list("") == ()
