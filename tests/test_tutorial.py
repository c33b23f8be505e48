"""Every file and command of docs/tutorial.md up to the cluster is carried out (tests/slurm does the rest)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.tutorial import carry_out, commands, write_files

SMALLER = {
    "train.epochs: 10": "train.epochs: 2",
    "repeats: 5": "repeats: 1",
    "batch_size: [64, 720]": "batch_size: [720]",
}


def test_every_command_of_the_tutorial_is_in_a_section_that_a_test_carries_out() -> None:
    assert commands(1) == []
    assert len(commands(2)) == 9
    assert len(commands(3)) == 10
    assert all(command.startswith("saman ") for section in (2, 3) for command in commands(section))


@pytest.mark.ranks
@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_tutorial_works_on_a_laptop(tmp_path: Path) -> None:
    write_files(tmp_path, SMALLER)
    said = {}
    for command in commands(2):
        done = carry_out(command, tmp_path)
        # a single repeat, as here, is a finding of the report
        assert done.returncode == 0 or command.startswith("saman report"), f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    assert "2 runs" in said["saman status"]
    assert said["saman models list"].count("my-digits") == 2
    assert (tmp_path / "report" / "report.html").is_file()
    done = carry_out("python notebook.py", tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy, speed = map(float, done.stdout.splitlines()[0].split())
    assert accuracy > 0.3
    assert speed > 0


@pytest.mark.tensorflow
@pytest.mark.slow
def test_the_script_at_the_start_is_a_keras_script_that_runs(tmp_path: Path) -> None:
    write_files(tmp_path, {"epochs=5": "epochs=1"})
    ast.parse((tmp_path / "train.py").read_text())
    done = carry_out("python train.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "val_accuracy" in done.stdout
