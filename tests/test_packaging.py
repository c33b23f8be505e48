"""Holds what an installation is: a wheel with every room and data file, and no clash with a user's own packages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOMS = ("api", "cli", "configs", "jobs", "launcher", "pipeline", "registry", "runs", "scaling", "serving", "slurm",
         "trainers")  # fmt: skip
# Inputs of `make lock`, of no use without the source tree.
LEFT_OUT = {".in", ".txt", ".md"}


def tracked(repository: Path) -> list[Path]:
    """What a clone holds, relative to its root, links as links."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git clone")
    return [path for name in listed.stdout.split("\0") if name and os.path.lexists(repository / (path := Path(name)))]


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the tracked files alone."""
    folder = tmp_path_factory.mktemp("packaging")
    for path in tracked(repository):
        (folder / "clone" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / path, folder / "clone" / path, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), "./clone"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("saman-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """A folder with the wheel's content, as pip lays it out."""
    target = wheel.parent / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture
def users_project(tmp_path: Path) -> Path:
    """A working directory whose packages are called like our rooms and break when imported."""
    for room in ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text(f"raise SystemExit('{room} of the user was imported')\n")
    return tmp_path


def test_a_wheel_from_a_clean_clone_holds_every_room_and_data_file(repository: Path, wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"saman/{path}" for path in tracked(repository) if path.parts[0] in ROOMS and path.suffix not in LEFT_OUT
    }
    assert sorted(expected - names) == []
    assert any(name.endswith("configs/experiments/quickstart.yaml") for name in names)
    assert any(name.endswith(".lock") for name in names)
    assert "saman/py.typed" in names


def test_a_wheel_installs_nothing_beside_saman(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"saman"}


@pytest.mark.parametrize("start", [["-m", "saman"], ["bin/saman"]])
def test_an_installed_saman_works_beside_a_users_packages_of_the_same_names(
    installed: Path, users_project: Path, start: list[str]
) -> None:
    command = [sys.executable, *(start if start[0] == "-m" else [str(installed / start[0])])]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    for arguments in (["--version"], ["run", "quickstart", "--dry-run"], ["setup", "--dry-run"]):
        done = subprocess.run(
            [*command, *arguments], cwd=users_project, env=environment, capture_output=True, text=True, check=False
        )
        # an environment that saman set up from its source tree answers with what is still to do, or with a lack
        assert done.returncode in ((0, 2, 3) if arguments[0] == "setup" else (0,)), done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "of the user was imported" not in done.stdout + done.stderr


def test_the_installed_saman_is_the_one_that_was_tested(installed: Path, users_project: Path) -> None:
    program = "import saman.configs.errors as e, saman.launcher.setup.steps as s; print(e.__file__, s.source_tree())"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=users_project, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(installed / "saman" / "configs" / "errors.py"), "None"]


def test_the_editable_installation_leaves_the_repositorys_root_off_the_path(repository: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util as u, json, sys\n"
        f"print(json.dumps([[r for r in {ROOMS!r} if u.find_spec(r)], sys.path, u.find_spec('saman').origin]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    rooms, path, origin = json.loads(done.stdout)
    assert rooms == []
    assert str(repository) not in path
    assert Path(origin).is_relative_to(repository / "src")
