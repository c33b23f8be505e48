"""Every step of the set-up takes effect in the job, or the job ends with 3 and says which step did not, and why."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.script.quoting import ShellText
from saman.slurm.script.setup_lines import setup_lines, variables_of_setup

HOSTILE = [
    "it's",
    "two words",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a;touch PWNED",
    "a&b|c",
    "*",
    "ü 数据",
    'say "x"',
    "{{7*7}}",
]
MODULES = (  # like the real ones: `load` says nothing when it fails silently
    "module() { case $1 in load) LOADEDMODULES=${LOADEDMODULES:+$LOADEDMODULES:}$2;; "
    "use) MODULEPATH=${MODULEPATH:+$MODULEPATH:}$2;; "
    "restore) LOADEDMODULES=gcc/12:mpi/4;; is-loaded) return 1;; esac; }"
)
SILENT = "module() { :; }"


def run(
    folder: Path, *steps: dict[str, Any], before: str = "", python: str = "true"
) -> subprocess.CompletedProcess[str]:
    """Run a set-up with bash, and show the variables that it leaves."""
    cluster = validated(
        Cluster,
        {"name": "site", "partitions": [{"name": "cpu", "cores_per_node": 1}], "setup": list(steps)},
        "site.yaml",
    )
    lines = setup_lines(cluster, ShellText(shlex.quote(python)))
    (folder / "slurm").mkdir(exist_ok=True)
    script = f'run=$PWD job=7\nset -euo pipefail\n{before}\n{lines}\necho "run $run job $job in $PWD"; env'
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    command = ["bash", "-c", script, "bash", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 3, done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("saman: ") and all(word in sentence for word in words), sentence
    assert (Path(done.args[-1]) / "slurm/setup-failure").read_text() == sentence + "\n"  # for `saman status`


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_modules_are_used_and_loaded_by_any_name(tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in HOSTILE]
    for folder in folders:
        Path(folder).mkdir()
    steps = {"modules": {"purge": True, "use": folders, "load": HOSTILE}}
    done = run(tmp_path, steps, before=f"set -a; {MODULES}")
    assert done.returncode == 0, done.stderr
    assert f"LOADEDMODULES={':'.join(HOSTILE)}\n" in done.stdout
    assert f"MODULEPATH={':'.join(folders)}\n" in done.stdout
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_module_that_silently_did_not_load_ends_the_job(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, {"modules": {"load": [name]}}, before=SILENT)
    refused(
        done, f"module load {name} failed", "not among the loaded modules: none", "setup[0].modules of the cluster file"
    )
    assert not list(tmp_path.rglob("PWNED"))


def test_a_module_is_known_by_its_name_without_version(tmp_path: Path) -> None:
    before = 'module() { [ "$1" = load ] && LOADEDMODULES=gcc/12.3.0; [ "$1" != is-loaded ]; }'
    assert run(tmp_path, {"modules": {"load": ["gcc"]}}, before=before).returncode == 0
    refused(run(tmp_path, {"modules": {"load": ["gc"]}}, before=before), "gcc/12.3.0")


def test_a_module_command_that_answers_yes_to_everything_is_not_believed(tmp_path: Path) -> None:
    refused(run(tmp_path, {"modules": {"load": ["gcc"]}}, before="module() { return 0; }"), "module load gcc failed")


def test_a_folder_of_modules_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(run(tmp_path, {"modules": {"use": ["/no/such"]}}, before=MODULES), "module use /no/such", "no such folder")
    refused(run(tmp_path, {"modules": {"use": [str(tmp_path)]}}, before=SILENT), "not in MODULEPATH")


def test_a_collection_brings_the_modules_that_it_must(tmp_path: Path) -> None:
    steps = {"collection": {"name": "mine", "modules": ["gcc", "mpi/4"]}}
    assert run(tmp_path, steps, before=MODULES).returncode == 0
    refused(run(tmp_path, {"collection": {"name": "mine", "modules": ["cuda"]}}, before=MODULES), "no module cuda")
    refused(
        run(tmp_path, {"collection": {"name": "mine"}}, before=SILENT), "module restore mine", "no module is loaded"
    )


def test_a_sourced_file_sets_what_it_must_and_survives_the_strict_shell(tmp_path: Path) -> None:
    site = tmp_path / "it's $(touch PWNED).sh"
    site.write_text("false\nSITE_ROOT=$UNSET/opt\nrun=/elsewhere job=8\ncd /\nset -e\n")
    done = run(tmp_path, {"source": {"file": str(site).replace("$", "$$"), "sets": ["SITE_ROOT"]}})
    assert done.returncode == 0, done.stderr
    assert "SITE_ROOT=/opt\n" in done.stdout and f"run {tmp_path} job 7 in {tmp_path}\n" in done.stdout
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A=1", "it does not set SITE_ROOT"),
        ("SITE_ROOT=", "it does not set SITE_ROOT"),
        ("return 4", "exit status 4"),
        ("exit 0", "it ended the job script"),
        (None, "no such file"),
    ],
)
def test_a_sourced_file_that_did_not_do_it_ends_the_job(text: str | None, words: str, tmp_path: Path) -> None:
    site = tmp_path / "env.sh"
    if text is not None:
        site.write_text(text + "\n")
    done = run(tmp_path, {"source": {"file": str(site), "sets": ["SITE_ROOT"]}})
    refused(done, f"source {site} failed", words, "setup[0].source")


def test_a_virtual_environment_that_was_moved_is_noticed(tmp_path: Path) -> None:
    for name in ("venv", "moved"):
        activate = tmp_path / name / ".venv/bin/activate"
        executable(activate, f"export VIRTUAL_ENV={tmp_path}/venv/.venv\n")
    assert run(tmp_path, {"virtualenv": str(tmp_path / "venv/.venv")}).returncode == 0
    assert run(tmp_path, {"uv": {"project": str(tmp_path / "venv")}}).returncode == 0
    refused(run(tmp_path, {"uv": {"project": str(tmp_path / "moved")}}), "was moved", "setup[0].uv")
    refused(run(tmp_path, {"virtualenv": "/no/such"}), "virtualenv /no/such", "no bin/activate")


def test_a_conda_environment_is_active_by_name_or_by_folder(tmp_path: Path) -> None:
    sh = tmp_path / "root/etc/profile.d/conda.sh"
    (tmp_path / "root/envs/tf").mkdir(parents=True)
    executable(sh, f"conda() {{ export CONDA_PREFIX={tmp_path}/root/envs/tf CONDA_DEFAULT_ENV=tf; }}\n")
    root = str(tmp_path / "root")
    for name in ("tf", f"{root}/envs/tf"):
        assert run(tmp_path, {"conda": {"root": root, "environment": name}}).returncode == 0
    refused(run(tmp_path, {"conda": {"root": root, "environment": "torch"}}), "conda activate torch", "CONDA_PREFIX is")
    refused(run(tmp_path, {"conda": {"root": "/no", "environment": "tf"}}), "etc/profile.d/conda.sh")


def test_a_pixi_environment_is_the_one_asked_for_and_installed(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "pixi.toml").touch()
    program = executable(
        tmp_path / "pi xi",
        '#!/bin/bash\necho "$@" >&2\necho "export PIXI_ENVIRONMENT_NAME=gpu CONDA_PREFIX=$HOME/env"\n',
    )
    step = {"manifest": str(tmp_path / "pixi.toml"), "program": str(program), "environment": "gpu"}
    done = run(tmp_path, {"pixi": step})
    assert done.returncode == 0 and "--frozen --no-install" in done.stderr
    refused(run(tmp_path, {"pixi": {**step, "environment": "cpu"}}), "PIXI_ENVIRONMENT_NAME is gpu")
    (tmp_path / "env").rmdir()
    refused(run(tmp_path, {"pixi": step}), "not installed")


def test_eessi_is_the_version_asked_for(tmp_path: Path) -> None:
    init = tmp_path / "eessi/versions/2023.06/init"
    executable(init / "bash", f"export EESSI_VERSION=2023.06 EESSI_SOFTWARE_PATH={tmp_path}\n")
    step = {"version": "2023.06", "root": str(tmp_path / "eessi")}
    assert run(tmp_path, {"eessi": step}).returncode == 0
    executable(init / "lmod/bash", "export EESSI_VERSION=2023.06 EESSI_SOFTWARE_PATH=/no/such\n")
    refused(run(tmp_path, {"eessi": step}), "no software for this processor")
    executable(init / "lmod/bash", f"export EESSI_VERSION=2025.06 EESSI_SOFTWARE_PATH={tmp_path}\n")
    refused(run(tmp_path, {"eessi": step}), "EESSI_VERSION is 2025.06")
    refused(run(tmp_path, {"eessi": {**step, "version": "2025.06"}}), "CernVM-FS")


def test_what_spack_loads_is_found_among_the_loaded_packages(tmp_path: Path) -> None:
    spack = (  # as spack: load fails silently for the second; find --loaded lists the first
        "spack() { case $1 in env) export SPACK_ENV=/envs/$3;; "
        "find) [ \"${!#}\" = 'openmpi@5 +cuda' ] && echo abc;; esac; }\n"
    )
    executable(tmp_path / "spack/share/spack/setup-env.sh", spack)
    root = str(tmp_path / "spack")
    good = {"root": root, "environment": "train", "load": ["openmpi@5 +cuda"]}
    assert run(tmp_path, {"spack": good}).returncode == 0
    refused(run(tmp_path, {"spack": {**good, "load": ["hdf5"]}}), "spack load hdf5", "find --loaded")
    executable(tmp_path / "spack/share/spack/setup-env.sh", spack.replace("/envs/$3", "/envs/other"))
    refused(run(tmp_path, {"spack": good}), "spack env activate train", "SPACK_ENV is /envs/other")
    refused(run(tmp_path, {"spack": {"root": "/no"}}), "setup-env.sh")


@pytest.mark.parametrize("python", ["/no/such/python", "false"])
def test_a_python_without_saman_is_named_before_anything_starts(python: str, tmp_path: Path) -> None:
    site = tmp_path / "env.sh"
    site.touch()
    done = run(tmp_path, {"source": {"file": str(site)}}, python=python)
    refused(done, f"Python {python} failed", "software.python")


def test_steps_are_carried_out_in_order_and_the_failing_one_is_named(tmp_path: Path) -> None:
    first, second = tmp_path / "1.sh", tmp_path / "2.sh"
    first.write_text("export A=1\n")
    second.write_text('[ "$A" = 1 ] && export B=2\n')
    steps = [{"source": {"file": str(first), "sets": ["A"]}}, {"source": {"file": str(second), "sets": ["B"]}}]
    assert run(tmp_path, *steps).returncode == 0
    refused(run(tmp_path, *reversed(steps)), "setup[0].source", "2.sh")


def test_a_site_without_set_up_has_no_lines_for_it(tmp_path: Path) -> None:
    bare = validated(Cluster, {"name": "s", "partitions": [{"name": "c", "cores_per_node": 1}]}, "x")
    assert setup_lines(bare, ShellText("true")) is None and variables_of_setup(bare) == ()
    with pytest.raises(UserError):
        run(tmp_path, {"source": {"file": "relative.sh"}})


def test_the_real_module_command_loads_and_is_checked(tmp_path: Path) -> None:
    if not Path("/etc/profile.d/modules.sh").is_file():
        pytest.skip("no Environment Modules here (apt-get install environment-modules)")
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool/1.0").write_text('#%Module1.0\nsetenv TOOL_SAYS "yes"\n')
    (tmp_path / "tool/.modulerc").write_text("#%Module1.0\nmodule-version tool/1.0 stable\n")
    for name in ("tool", "tool/1.0", "tool/stable"):
        done = run(tmp_path, {"modules": {"use": [str(tmp_path)], "load": [name]}})
        assert done.returncode == 0, done.stderr
        assert "TOOL_SAYS=yes\n" in done.stdout
    refused(run(tmp_path, {"modules": {"use": [str(tmp_path)], "load": ["tool/2.0"]}}), "module load tool/2.0")
