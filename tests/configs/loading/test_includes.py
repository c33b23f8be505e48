"""``include:`` in an experiment: parts of it in other files, under its own keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment

BASE = """
name: mine
model: {build: mlp}
data: {source: digits}
train: {strategy: horovod, global_batch_size: 32}
"""


def written(folder: Path, **files: str) -> str:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder / "mine.yaml")


def test_the_files_own_keys_override_the_included_and_a_later_file_an_earlier(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        mine="include: [one.yaml, parts/two.yaml]\nlaunch: {horovod: {cycle_time_ms: 3}}" + BASE,
        one="launch: {horovod: {cycle_time_ms: 1, fusion_threshold: 1M}}\nresources: {ranks_per_node: 2}",
        parts__two="include: [three.yaml]\nlaunch: {horovod: {cycle_time_ms: 2}}",
        parts__three="launch: {horovod: {fusion_threshold: 2M}}\ntrain: {epochs: 7}",
    )
    found = load_experiment(file).experiment
    assert found.launch.horovod.cycle_time_ms == 3 and found.launch.horovod.fusion_threshold == "2M"
    assert found.resources.ranks == 2 and found.train.epochs == 7 and found.train.global_batch_size == 32
    assert load_experiment(file, ["train.epochs=1"]).experiment.train.epochs == 1
    assert "include" not in found.resolved()


@pytest.mark.parametrize(
    ("include", "problem"),
    [
        ("[gone.yaml]", "no such file"),
        ("[mine.yaml]", "includes itself"),
        ("[loop.yaml]", "includes itself"),
        ("one.yaml", "list of files"),
        ("[text.yaml]", "not a mapping"),
    ],
)
def test_what_cannot_be_included_is_refused_with_its_place(tmp_path: Path, include: str, problem: str) -> None:
    file = written(tmp_path, mine=f"include: {include}" + BASE, loop="include: [mine.yaml]", text="just words")
    with pytest.raises(UserError, match=problem) as error:
        load_experiment(file)
    assert "include" in str(error.value.where)


def test_an_unknown_key_of_an_included_file_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, mine="include: [one.yaml]" + BASE, one="train: {epoch: 7}")
    with pytest.raises(UserError, match="epoch"):
        load_experiment(file)
