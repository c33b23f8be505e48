"""Start commands: the right flags for each MPI, the reason for each choice, and no value that a shell could read."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.experiment import Experiment, Resources
from saman.launcher.node.horovod_build import HorovodBuild, horovod_build, read_build
from saman.launcher.node.machine import Node
from saman.launcher.node.mpi import Flavour, MpiInstallation, find_mpi, parse_version
from saman.launcher.plan.place import place
from saman.launcher.plan.placement import Placement
from saman.launcher.planning import Options, gather_facts, make_plan
from saman.launcher.programs import script_path
from saman.launcher.starters.choose import make_start
from saman.launcher.starters.start import Command, MachineFacts, RankProgram, Start, network_variables

OPEN_MPI_4 = MpiInstallation(Flavour.OPEN_MPI, (4, 1, 8), "/env/bin/mpirun")
OPEN_MPI_5 = MpiInstallation(Flavour.OPEN_MPI, (5, 0, 11), "/env/bin/mpirun")
MPICH = MpiInstallation(Flavour.MPICH, (5, 0, 2), "/env/bin/mpirun")
INTEL = MpiInstallation(Flavour.INTEL, (2021, 18, 1), "/env/bin/mpirun")
BOTH = HorovodBuild("openmpi", gloo=True)
FACTS = MachineFacts("/env/bin/python", OPEN_MPI_4, BOTH, "/env/bin/horovodrun")
JOB = RankProgram(Path("/runs/a/1"), 1, ("python", "train.py"), {"COLOUR": "red, green"})

EXPERIMENT = Experiment.model_validate(
    {"name": "tiny", "model": {"build": "mlp"}, "data": {"source": "digits"}, "train": {"global_batch_size": 24}}
)


def _placement(ranks: int = 2, nodes: int = 1, cores: int = 8) -> Placement:
    here = [Node(f"n{index}", cores) for index in range(nodes)]
    return place(Resources(nodes=nodes, ranks_per_node=ranks), 1, here)


def _flags(start: Start) -> list[str]:
    argv = list(start.commands[0].argv)
    return argv[: argv.index("-m") - 1]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mpirun (Open MPI) 4.1.8\n\nReport bugs to http://www.open-mpi.org/community/help/\n", OPEN_MPI_4),
        ("mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/\n", OPEN_MPI_5),
        (
            "HYDRA build details:\n    Version:                                 5.0.2\n"
            "    Release Date:                            Fri Sep 25 20:45:26 UTC 2026\n    CC:    cc\n",
            MPICH,
        ),
        (
            "Intel(R) MPI Library for Linux* OS, Version 2021.18.1 Build 20260626 (id: b44796a)\n"
            "Copyright 2003-2026, Intel Corporation.\n",
            INTEL,
        ),
    ],
)
def test_each_mpi_is_known_by_what_its_mpirun_says(text: str, found: MpiInstallation) -> None:
    assert parse_version(text) == (found.flavour, found.version)


@pytest.mark.parametrize("text", ["", "bash: mpirun: command not found", "slurm 22.05.8", "mpirun version unknown"])
def test_anything_else_is_no_mpi(text: str) -> None:
    assert parse_version(text) is None


@pytest.mark.mpi
def test_the_mpi_that_is_here_is_found() -> None:
    mpi = find_mpi()
    if mpi is None:
        pytest.skip("no mpirun here")
    assert mpi.version > (1,) and Path(mpi.mpirun).exists()


def test_what_horovod_was_built_with_is_read_from_its_library(tmp_path: Path) -> None:
    for name, content, build in (
        ("a", b"\0libmpi.so.40\0..HOROVOD_GLOO_RENDEZVOUS_ADDR", HorovodBuild("openmpi", True)),
        ("b", b"\0libmpi.so.12\0", HorovodBuild("mpich", False)),
        ("c", b"\0HOROVOD_GLOO_RENDEZVOUS_ADDR\0", HorovodBuild(None, True)),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_build(tmp_path / name) == build
    assert horovod_build("/no/such/python") is None


def test_open_mpi_4_and_5_get_their_own_flags() -> None:
    four = _flags(make_start("mpirun", _placement(), JOB, replace(FACTS, is_root=True)))
    assert four[:8] == ["/env/bin/mpirun", "-np", "2", "--bind-to", "none", "--map-by", "slot", "--oversubscribe"]
    assert "--allow-run-as-root" in four
    five = _flags(make_start("mpirun", _placement(), JOB, replace(FACTS, mpi=OPEN_MPI_5)))
    assert five[5:7] == ["--map-by", "slot:OVERSUBSCRIBE"] and "--allow-run-as-root" not in five
    names = [after for flag, after in zip(five, five[1:], strict=False) if flag == "-x"]
    assert {"SAMAN_RUN", "SAMAN_ATTEMPT", "SAMAN_STARTER", "COLOUR"} <= set(names)
    assert not any("=" in name for name in names)


@pytest.mark.parametrize("method", ["mpirun", "horovodrun", "srun"])
def test_a_rank_that_waits_for_a_message_leaves_its_core_to_those_that_compute(method: str) -> None:
    facts = replace(FACTS, srun="/usr/bin/srun", in_allocation=method == "srun")
    [command] = make_start(method, _placement(), JOB, facts).commands
    assert command.environment["OMPI_MCA_mpi_yield_when_idle"] == "1"
    assert command.environment["I_MPI_THREAD_YIELD"] == "2"
    asked = replace(JOB, environment={"OMPI_MCA_mpi_yield_when_idle": "0"})
    assert make_start(method, _placement(), asked, facts).commands[0].environment["OMPI_MCA_mpi_yield_when_idle"] == "0"


def test_several_nodes_are_named_in_the_order_of_ranks() -> None:
    spread = _placement(ranks=2, nodes=3)
    facts = replace(FACTS, forward=("PATH", "PYTHONPATH"))
    flags = _flags(make_start("mpirun", spread, JOB, facts))
    assert flags[flags.index("--host") + 1] == "n0:2,n1:2,n2:2" and "PYTHONPATH" in flags
    hydra = _flags(make_start("mpirun", spread, JOB, replace(facts, mpi=MPICH, horovod=None)))
    assert hydra == ["/env/bin/mpirun", "-np", "6", "-genvall", "-bind-to", "none", "-hosts", "n0,n1,n2", "-ppn", "2"]
    horovodrun = _flags(make_start("horovodrun", spread, JOB, facts))
    assert horovodrun[1:] == ["-np", "6", "-H", "n0:2,n1:2,n2:2", "--mpi"]


def test_srun_gets_its_values_through_the_environment() -> None:
    facts = replace(FACTS, srun="/usr/bin/srun", in_allocation=True)
    start = make_start("auto", _placement(ranks=2, nodes=2, cores=4), JOB, facts)
    flags = _flags(start)
    assert {"--nodes=2", "--ntasks=4", "--cpus-per-task=2", "--nodelist=n[0-1]", "--mpi=pmix", "--export=ALL"} <= set(
        flags
    )
    assert start.commands[0].environment["COLOUR"] == "red, green"
    assert not any("green" in flag for flag in flags)
    assert start.commands[0].environment["SLURM_PMIX_FENCE"] == "ring"
    chosen = replace(JOB, environment={"SLURM_PMIX_FENCE": "tree"})
    assert make_start("auto", _placement(2, 2), chosen, facts).commands[0].environment["SLURM_PMIX_FENCE"] == "tree"
    gloo = make_start("auto", _placement(ranks=2, nodes=2), JOB, replace(facts, pmi="none"))
    assert "--mpi=none" in _flags(gloo) and gloo.companions[0].argv[-2:] == ("n0:2", "n1:2")
    assert gloo.commands[0].environment["SAMAN_RENDEZVOUS"] == "/runs/a/1/attempts/1/rendezvous.json"
    assert "--bind" not in gloo.companions[0].argv
    named = make_start("auto", _placement(ranks=2, nodes=2), JOB, replace(facts, pmi="none", address="10.1.0.7"))
    assert named.companions[0].argv[-4:-2] == ("--bind", "10.1.0.7")  # network.interface's address


@pytest.mark.parametrize(
    ("facts", "job", "nodes", "method", "reason"),
    [
        (FACTS, JOB, 1, "mpirun", "Horovod was built with Open MPI 4.1.8"),
        (FACTS, replace(JOB, horovod=False), 1, "processes", "the program needs no MPI"),
        (replace(FACTS, mpi=None), JOB, 1, "processes", "no mpirun is installed"),
        (replace(FACTS, mpi=MPICH), JOB, 1, "processes", "Horovod was not built with MPICH 5.0.2"),
        (replace(FACTS, srun="/srun", in_allocation=True), JOB, 2, "srun", "this is a Slurm allocation"),
        (FACTS, JOB, 2, "mpirun", "2 nodes outside a Slurm allocation"),
    ],
)
def test_auto_says_what_it_picked_and_why(
    facts: MachineFacts, job: RankProgram, nodes: int, method: str, reason: str
) -> None:
    start = make_start("auto", _placement(nodes=nodes), job, facts)
    assert start.starter == method
    assert start.notes[0].startswith(f"start method {method}: ") and reason in start.notes[0]


def test_horovodrun_avoids_mpi_where_it_is_broken() -> None:
    start = make_start("horovodrun", _placement(), JOB, replace(FACTS, mpi=OPEN_MPI_5))
    assert "--gloo" in start.commands[0].argv
    assert any("does not work with Open MPI 5.0.11" in note for note in start.notes)


@pytest.mark.parametrize(
    ("method", "facts", "problem"),
    [
        ("mpirun", replace(FACTS, mpi=None), "no mpirun is installed"),
        ("mpirun", replace(FACTS, mpi=MPICH), "Horovod was built with Open MPI, but /env/bin/mpirun is MPICH 5.0.2"),
        ("mpirun", replace(FACTS, horovod=HorovodBuild(None, True)), "Horovod was built without MPI"),
        ("horovodrun", replace(FACTS, horovodrun=None), "horovodrun is not installed"),
        ("srun", FACTS, "srun is not installed"),
        ("srun", replace(FACTS, srun="/srun"), "srun needs a Slurm allocation"),
        ("processes", replace(FACTS, horovod=HorovodBuild("openmpi", False)), "Horovod was built without Gloo"),
    ],
)
def test_a_start_method_that_is_missing_is_a_lack_of_the_environment(
    method: str, facts: MachineFacts, problem: str
) -> None:
    with pytest.raises(EnvironmentLack, match=problem) as caught:
        make_start(method, _placement(), JOB, facts)
    assert caught.value.remedy


def test_each_process_of_an_elastic_run_on_several_nodes_is_a_job_step_that_can_move() -> None:
    job, facts = replace(JOB, elastic=True), replace(FACTS, srun="/usr/bin/srun", in_allocation=True)
    start = make_start("auto", _placement(ranks=2, nodes=2), job, facts)
    found = [word for command in start.commands for word in command.argv if word.startswith("--nodelist=")]
    assert start.starter == "steps" and found == [f"--nodelist=n{node}" for node in (0, 0, 1, 1)]
    assert [command.environment["SAMAN_PROCESS"] for command in start.commands] == ["0", "1", "2", "3"]
    given = replace(start.commands[3], argv=(*start.commands[3].argv, "--nodelist=mine"))
    assert "--nodelist=n7" in given.on_node("n7").argv and given.on_node("n7").argv[-1] == "--nodelist=mine"
    with pytest.raises(EnvironmentLack, match="Slurm allocation"):
        make_start("auto", _placement(ranks=2, nodes=2), job, FACTS)


def test_processes_does_not_span_nodes() -> None:
    with pytest.raises(UserError, match="the request is for 2 nodes"):
        make_start("processes", _placement(nodes=2), JOB, FACTS)


def test_one_interface_serves_every_library() -> None:
    variables = network_variables(["ib0"])
    assert set(variables.values()) == {"ib0"}
    assert {"OMPI_MCA_btl_tcp_if_include", "HOROVOD_GLOO_IFACE", "NCCL_SOCKET_IFNAME"} <= set(variables)
    assert network_variables([]) == {}


def test_several_interfaces_go_to_what_takes_a_list_and_the_first_to_the_others() -> None:
    variables = network_variables(["hsn0", "hsn1"])
    assert variables["NCCL_SOCKET_IFNAME"] == variables["OMPI_MCA_btl_tcp_if_include"] == "hsn0,hsn1"
    assert variables["HOROVOD_GLOO_IFACE"] == variables["I_MPI_HYDRA_IFACE"] == "hsn0"
    start = make_start("horovodrun", _placement(), JOB, replace(FACTS, interfaces=("hsn0", "hsn1")))
    assert "--network-interfaces hsn0,hsn1" in " ".join(start.commands[0].argv)


_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40)


@given(st.lists(_TEXT, min_size=1, max_size=4), st.dictionaries(st.sampled_from(["A", "B", "C_1"]), _TEXT), _TEXT)
def test_bash_reads_every_command_as_it_was_meant(arguments: list[str], variables: dict[str, str], folder: str) -> None:
    command = Command(("printf", "%s\\0", *arguments), variables)
    silent = Command(("true",), {"SAMAN_PROCESS": "1"})  # output of both would mix
    start = Start("processes", (command, silent))
    text = start.text()
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert "\0".join(arguments).encode() + b"\0" in done.stdout
    assert shlex.split(command.text())[-len(arguments) :] == arguments
    assert subprocess.run(["bash", "-nc", Start("x", (command,)).text(Path("/", folder))], check=False).returncode == 0


def _tool(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)
    return folder


def test_another_environments_mpirun_is_taken_for_its_own_scripts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = _tool(tmp_path / "theirs" / "bin", "mpirun", "mpirun (Open MPI) 5.0.11")
    monkeypatch.setenv("PATH", f"{theirs}:{os.environ['PATH']}")
    monkeypatch.setenv("CONDA_PREFIX", str(theirs.parent))
    found = gather_facts(str(theirs / "python"))
    assert found.mpi and found.mpi.mpirun == str(theirs / "mpirun")
    ours = Path(sys.executable).parent
    script, _ = script_path(os.environ)
    assert script.split(":")[0] == str(theirs)
    plan = make_plan(EXPERIMENT, tmp_path, (), Options(runs_dir=tmp_path))  # horovodrun takes the first mpirun on PATH
    assert plan.environment["PATH"].split(":")[:2] == [str(ours), str(theirs)]
