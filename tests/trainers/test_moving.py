"""A new project, and the experiments of docs/moving.md, are sound and train; all in a single start of a rank."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rank_starts import SOURCE, start

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.loading.project import make_project
from saman.configs.loading.studies import load_study
from saman.configs.loading.tunings import load_tuning
from saman.runs.folder import RunFolder

PAGE = Path(__file__).parents[2] / "docs" / "moving.md"
FILE = re.compile(r"^```\w+\n# (\S+\.(?:py|yaml))\n(.*?)^```$", re.M | re.S)
ALONE = ["train.strategy=single", "resources.ranks_per_node=1", "train.epochs=1", "publish=null"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project, with the files of the page beside it."""
    folder = make_project(tmp_path_factory.mktemp("projects") / "spirals")
    for name, text in FILE.findall(PAGE.read_text("utf-8")):
        (folder / name).write_text(text)
    return folder


def test_a_new_project_is_whole_and_nothing_is_overwritten(folder: Path) -> None:
    assert load_experiment(str(folder / "experiment.yaml")).experiment.publish is not None
    assert load_study(str(folder / "study.yaml"))[0].axes == {"ranks": [1, 2]}
    assert load_tuning(str(folder / "tune.yaml"))[0].trials == 20
    for place, problem in [(folder, "exists already"), (folder.parent / "-x", "cannot name an experiment")]:
        with pytest.raises(UserError, match=problem):
            make_project(place)


def test_the_scripts_of_the_page_are_python_and_every_key_is_known(folder: Path) -> None:
    for name in ("keras_before.py", "keras_parts.py", "horovod_before.py"):
        compile((folder / name).read_text(), name, "exec")
    for name in ("keras_after.yaml", "horovod_after.yaml"):
        assert load_experiment(str(folder / name)).experiment.train.strategy == "horovod"


@pytest.mark.slow
@pytest.mark.tensorflow
@pytest.mark.keras(3)  # the page sums states of metrics
def test_the_new_project_and_the_moved_scripts_train(folder: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("experiment.yaml", "keras_after.yaml", "horovod_after.yaml"):
        loaded = load_experiment(str(folder / name), ALONE)
        runs.append(RunFolder.create(tmp_path, loaded.experiment, code_path=[str(folder)]))
    helper = Path(__file__).parent / "train_in_one_start.py"
    done = start(1, str(helper), *[str(run.path) for run in runs], PYTHONPATH=f"{SOURCE}{os.pathsep}{folder}")
    assert done.returncode == 0, done.stderr[-3000:]
    found = [
        {name for event in run.events() if event.kind == "epoch" for name in event.facts["metrics"]} for run in runs
    ]
    assert {"val_accuracy", "val_f1_score"} <= found[0]
    assert {"val_loss", "auc", "val_auc", "val_f1_score", "sparse_categorical_accuracy"} <= found[1]
    assert "INFO epoch 0: " in done.stderr


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    [block] = re.findall(r"^```\n(saman new .*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    place, environment = tmp_path, {**os.environ, "PYTHONPATH": str(SOURCE)}
    for line in block.splitlines():
        words = line.split()
        if words[0] == "cd":
            place = place / words[1]
        elif words[-1] != "experiment.yaml":  # trained by the test above
            command = [sys.executable, "-m", "saman", *words[1:]]
            done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "not probabilities", "-p", "no:cacheprovider"],
        cwd=place, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
