"""``saman.submit`` from Python on a real Slurm."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster

import saman

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]


def test_the_example_of_submit_works(minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = minicluster.shared / "face"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "my.yaml").write_text(
        (Path(saman.load_experiment("quickstart").file)).read_text().replace("epochs: 30", "epochs: 2")
    )
    example = doctest.DocTestParser().get_doctest(saman.submit.__doc__ or "", {}, "submit", None, 0)
    assert doctest.DocTestRunner().run(example).failed == 0
    run = saman.open_run("last")
    assert run.status.job is not None
    assert run.status.cluster == "minicluster"
    assert "Slurm job" in run._repr_html_()
    assert run.logs(1)
