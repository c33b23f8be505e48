"""What the machine offers is read as the kernel, the control groups and CUDA mean it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.launcher.node import machine
from saman.runs.ranks import interfaces


def test_this_node_offers_no_more_than_this_process_may_use() -> None:
    node = machine.this_node({})
    assert 1 <= node.cores <= len(os.sched_getaffinity(0))
    assert node.memory_bytes and node.memory_bytes > 2**20


def test_slurm_names_the_node_before_the_host_does() -> None:
    assert machine.node_name({"SLURMD_NODENAME": "rack1-n07"}) == "rack1-n07"
    assert machine.node_name({}) == os.uname().nodename


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [("n1", "n1.cluster.edu", True), ("n1.a", "n1.b", False), ("n1", "n10", False), ("n1", "n1", True)],
)
def test_a_short_name_means_the_same_node_as_its_long_form(first: str, other: str, same: bool) -> None:
    assert machine.same_node(first, other) is same


def test_the_tightest_quota_above_the_process_counts(tmp_path: Path) -> None:
    inner = tmp_path / "user.slice" / "job"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    (inner / "memory.max").write_text("1073741824\n")
    groups = "0::/user.slice/job\n"
    assert machine.cpu_quota(tmp_path, groups) == 1.5
    assert machine.memory_bytes(tmp_path, groups) == 2**30
    assert machine.cpu_quota(tmp_path / "user.slice" / "job", "0::/") is None


def test_an_old_control_group_is_read_too(tmp_path: Path) -> None:
    folder = tmp_path / "cpu" / "box"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("200000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert machine.cpu_quota(tmp_path, "4:cpu,cpuacct:/box\n") == 2.0


@pytest.mark.parametrize(
    ("text", "names"),
    [("0,1", ["0", "1"]), ("", []), ("-1", []), ("2,-1,3", ["2"]), ("GPU-8f2a, GPU-91bc", ["GPU-8f2a", "GPU-91bc"])],
)
def test_visible_devices_are_read_as_cuda_reads_them(text: str, names: list[str]) -> None:
    assert machine.visible_gpus({"CUDA_VISIBLE_DEVICES": text}) == names


def test_nvidia_smi_is_asked_where_nothing_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: GPU-1)'\necho 'GPU 1: A100 (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert machine.visible_gpus({}) == ["0", "1"]


def test_the_address_of_an_interface_is_found_and_none_for_what_is_no_interface() -> None:
    assert interfaces.interface_address("lo") == "127.0.0.1"
    assert interfaces.interface_address("nosuch0") is None
    assert interfaces.interface_address("") is None


def test_open_mpi_starts_where_there_is_no_ssh(tmp_path: Path) -> None:
    without = {"PATH": str(tmp_path)}
    assert machine.open_mpi_without_ssh(without) == {"OMPI_MCA_plm_rsh_agent": "false"}
    assert machine.open_mpi_without_ssh({**without, "OMPI_MCA_plm_rsh_agent": "qrsh"}) == {}
    (tmp_path / "ssh").touch(mode=0o755)
    assert machine.open_mpi_without_ssh(without) == {}


def test_the_addresses_of_this_host_are_those_that_others_can_see() -> None:
    found = interfaces.own_addresses()
    assert not any(address.startswith(("127.", "169.254.", "fe80:")) or address == "::1" for address in found)
    assert set(interfaces.own_addresses("203.0.113.9")) == {*found, "203.0.113.9"}
    assert interfaces.own_addresses("127.0.1.1") == interfaces.own_addresses("host.invalid") == found


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"ROCR_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"HIP_VISIBLE_DEVICES": "1"}, ["1"]),
        ({"CUDA_VISIBLE_DEVICES": "0", "ROCR_VISIBLE_DEVICES": "0,1"}, ["0"]),
    ],
)
def test_gpus_of_amd_are_found_by_the_variable_that_slurm_sets_for_them(
    environ: dict[str, str], names: list[str]
) -> None:
    assert machine.visible_gpus(environ) == names
