"""The part of docs/tutorial.md that needs a cluster, carried out on a real Slurm."""

from __future__ import annotations

import pytest
from tests.slurm.conftest import Minicluster
from tests.test_tutorial import SMALLER
from tests.tutorial import carry_out, commands, write_files

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]


def test_the_tutorial_works_on_a_cluster(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "tutorial"
    folder.mkdir()
    write_files(folder, {**SMALLER, "epochs: 5": "epochs: 2"})
    said = {}
    for command in commands(3):
        done = carry_out(command, folder)
        # a single repeat, as here, is a finding of the report
        assert done.returncode == 0 or command.startswith("saman report"), f"{command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    assert "#SBATCH" in said["saman submit my.yaml --cluster mysite.yaml --dry-run"]
    assert said["saman wait cluster.yaml"].count("completed") >= 2
    assert (folder / "scaling" / "report.html").is_file()
