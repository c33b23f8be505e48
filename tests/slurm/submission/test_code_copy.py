"""A submitted program works in its user's folder and imports the code of the time of submission."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import printed, site, told, wait_for

from saman.launcher.programs import script_from_command
from saman.launcher.rank.environment import import_variables
from saman.slurm.site import client
from saman.slurm.submission.code_copy import Snapshot, code_copy, describe_copy, relocated
from saman.slurm.submission.run_submission import SubmissionOptions, make_submission

PROGRAM = """
import helper, pathlib
print(helper.VERSION, pathlib.Path("secret.txt").read_text())
pathlib.Path("checkpoints").mkdir()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a program, a module, a configuration file, and a file and a folder that git ignores."""
    return make_project(tmp_path / "project")


def make_project(folder: Path) -> Path:
    (folder / "data").mkdir(parents=True)
    texts = {
        "train.py": PROGRAM,
        "helper.py": "VERSION = 'first'",
        "conf.yaml": "a: 1",
        ".gitignore": "secret.txt\ndata/",
    }
    for name, text in {**texts, "secret.txt": "ignored", "data/x.bin": "x"}.items():
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def copied(project: Path, command: list[str], directory: str) -> tuple[list[str], str, Snapshot]:
    spec = script_from_command(command, [f"launch.directory={directory}"], directory=project)
    copy = code_copy(spec, (project,), project.parent / "runs")
    assert copy is not None
    moved = relocated(spec, copy)
    return moved.command, moved.directory, copy  # type: ignore[union-attr]


def test_a_program_stays_in_its_folder_and_its_script_and_files_come_from_the_copy(project: Path) -> None:
    command, directory, copy = copied(project, ["python", "train.py", "conf.yaml", "secret.txt", "--lr", "1"], "user")
    code = copy.of(project)
    assert directory == str(project)
    assert command == ["python", str(code / "train.py"), str(code / "conf.yaml"), "secret.txt", "--lr", "1"]


def test_the_run_folder_and_the_copy_can_be_chosen(project: Path) -> None:
    command, directory, copy = copied(project, ["python", "train.py", "secret.txt"], "run")
    assert command == ["python", str(copy.of(project) / "train.py"), str(project / "secret.txt")]
    assert directory == str(project)
    assert copied(project, ["python", "train.py"], "copy")[1] != str(project)


def test_runs_beside_the_code_are_not_copied(project: Path) -> None:
    spec = script_from_command(["python", "train.py"], directory=project)
    for _ in range(2):
        copy = code_copy(spec, (project,), project / "runs")
        assert copy is not None and copy.files == 4


@pytest.mark.parametrize(("package", "copied_models"), [(None, set()), ("__init__.py", {"__init__.py", "weights.bin"})])
def test_published_models_beside_the_code_are_not_copied_but_a_package_is(
    project: Path, package: str | None, copied_models: set[str]
) -> None:
    models = project / "models"
    for name in ("weights.bin", *([package] if package else [])):
        models.mkdir(exist_ok=True)
        (models / name).write_text("")
    spec = script_from_command(["python", "train.py"], directory=project)
    copy = code_copy(spec, (project,), project.parent / "runs", models_dir=models)
    assert copy is not None
    assert {file.name for file in copy.of(project).glob("models/*")} == copied_models
    assert ("models/" in " ".join(describe_copy(spec, copy))) is (package is None)
    subprocess.run(["git", "-C", str(project), "add", "models/weights.bin"], check=True)
    tracked = code_copy(spec, (project,), project.parent / "runs", models_dir=models)
    assert tracked is not None and (tracked.of(project) / "models/weights.bin").exists()


def test_the_submission_says_what_is_copied_and_what_is_not(project: Path) -> None:
    spec = script_from_command(["python", "train.py"], directory=project)
    copy = code_copy(spec, (project,), project.parent / "runs")
    said = " ".join(describe_copy(spec, copy))
    assert "4 files copied" in said and "not copied: data/, secret.txt" in said and f"runs in {project}" in said


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python", "x.py"], {"PYTHONPATH": "/copy:/old"}),
        (["python3", "-u", "-m", "pkg"], {"PYTHONPATH": "/copy:/old", "PYTHONSAFEPATH": "1"}),
    ],
)
def test_imports_use_the_copy(command: list[str], expected: dict[str, str]) -> None:
    environ = {"SAMAN_CODE_PATH": "/copy", "SAMAN_DIRECTORY": "/home/me", "PYTHONPATH": "/old"}
    assert import_variables(command, environ) == expected
    assert import_variables(command, {**environ, "SAMAN_CODE_PATH": "/home/me"}) == {}


@pytest.mark.slurm
def test_a_job_runs_the_code_of_the_submission_beside_the_files_that_git_ignores(minicluster: Minicluster) -> None:
    project = make_project(minicluster.shared / "project")
    spec = script_from_command(["python", "train.py"], ["resources.cpus_per_rank=1"], directory=project)
    options = SubmissionOptions(runs_dir=minicluster.shared / "runs", partition="main")
    done = make_submission(spec, site(sbatch=["--begin=now+1hour"]), (project,), options).submission
    assert done is not None
    (project / "helper.py").write_text("VERSION = 'second'")
    client.ask(["scontrol", "update", f"JobId={done.job}", "StartTime=now"])
    assert wait_for(done.run).state == "completed", told(done.run)
    assert printed(done.run) == "first ignored\n"
    assert (project / "checkpoints").is_dir()
