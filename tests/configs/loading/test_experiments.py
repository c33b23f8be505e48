"""Promises of experiment files: mistakes are refused before anything starts, each with its key path and a remedy."""

import re

import pytest

from saman.configs import yaml12
from saman.configs.errors import ExitCode, UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.loading.files import find, overridden, shipped
from saman.configs.schemas.experiment import Experiment

GOOD = """
name: mine
model: {build: cnn, args: {classes: 10}}
data: {source: digits}
train: {global_batch_size: 64}
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return str(path)

    return written


def refused(file, *overrides, ranks=None):
    with pytest.raises(UserError) as refusal:
        load_experiment(file, overrides, ranks)
    assert refusal.value.exit_code == ExitCode.BAD_REQUEST
    return str(refusal.value)


def test_every_shipped_experiment_is_valid():
    assert "quickstart" in shipped("experiments")
    for name in shipped("experiments"):
        load_experiment(name)


def test_the_resolved_experiment_is_the_same_experiment(write):
    loaded = load_experiment(write(GOOD)).experiment
    again = Experiment.model_validate(yaml12.parse(yaml12.dump(loaded.resolved()), "resolved"))
    assert again == loaded
    assert again.digest() == loaded.digest()
    assert loaded.resolved()["model"]["args"]["filters"] == [16, 32]


def test_ten_mistakes_are_told_at_once_each_with_its_place(write):
    file = write("""
name: my experiment
modle: {build: mlp}
model: {build: cnnn}
data: {source: digits, args: {size: 8}, validation_fraction: 1.5}
train:
  strategy: horovdo
  epochs: 0
  global_batch_size: 64.5
  optimizer: {name: sgd, momentun: 0.9}
  learning_rate: {base: -1, scal: linear}
resources: {time_limit: "90 minutes", memory_per_rank: 4 gigs}
publish: {model: ../escape, if: {metric: val_accuracy}}
""")
    said = refused(file).splitlines()
    for key, words in {
        "name": "not a name",
        "modle": "did you mean 'model'",
        "model.build": "did you mean 'cnn'",
        "data.args.size": "unknown key",
        "data.validation_fraction": "less than 1",
        "train.strategy": "did you mean 'horovod'",
        "train.epochs": "greater than 0",
        "train.global_batch_size": "64.5",
        "train.optimizer.momentun": "did you mean 'momentum'",
        "train.learning_rate.base": "greater than 0",
        "train.learning_rate.scal": "did you mean 'scale'",
        "resources.time_limit": "HH:MM:SS",
        "resources.memory_per_rank": "4G",
        "publish.model": "not a name",
        "publish.if": "exactly one",
    }.items():
        lines = [line for line in said if line.startswith(f"{file}: {key}: ")]
        assert len(lines) == 1, (key, said)
        assert words in lines[0]
    assert len(said) == 15


@pytest.mark.parametrize(
    ("overrides", "ranks", "key", "words"),
    [
        (["train.strategy=single"], 2, "train.strategy", "single trains on 1 rank, but the request is for 2"),
        (["train.strategy=mirrored", "resources.nodes=2"], None, "resources.nodes", "1 node"),
        (["resources.devices_per_process=2"], 4, "resources.devices_per_process", "1 device per process"),
        (
            ["train.strategy=multi_worker", "resources.devices_per_process=2"],
            3,
            "resources.devices_per_process",
            "3 ranks",
        ),
        ([], 3, "train.global_batch_size", "for example 63 or 66"),
        (["train.global_batch_size=2"], 4, "train.global_batch_size", "for example 4"),
        (["train.micro_batches=3"], 2, "train.global_batch_size", "× 3 micro-batches"),
        (["train.early_stop={metric: val_los}"], None, "train.early_stop.metric", "did you mean 'val_loss'"),
        (
            ["publish={model: m, if: {metric: f1, at_least: 0}}"],
            None,
            "publish.if.metric",
            "does not compute the metric 'f1'",
        ),
        (
            ["data.validation_fraction=0", "train.early_stop={}"],
            None,
            "train.early_stop.metric",
            "does not compute the metric 'val_loss'",
        ),
        (
            ["train.loss=mean_squared_error", "train.early_stop={metric: accuracy}"],
            None,
            "train.early_stop.metric",
            "loss",
        ),
        (["train.learning_rate={base: 0.1, scale: linear}"], None, "train.learning_rate", "base_batch_size"),
        (["train.global_batch_size=null"], None, "train", "exactly one"),
        (["model.build=nowhere.to_be:found"], None, "model.build", "no module 'nowhere.to_be'"),
        (["data={source: fashion_mnist, args: {folder: /no/such}}"], None, "data.args.folder", "no such folder"),
        (["launch.environment={A B: x}"], None, "launch.environment", "'A B' is not the name"),
        (["train.learning_rate.base=.nan"], None, "train.learning_rate.base", "finite"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_starts(write, overrides, ranks, key, words):
    file = write(GOOD)
    said = refused(file, *overrides, ranks=ranks)
    assert re.search(rf"^({re.escape(file)}|command line): {re.escape(key)}: .*{re.escape(words)}", said, re.M), said


def test_a_mistake_is_located_where_its_value_was_given(write):
    file = write(GOOD.replace("64}", "64, seed: x}"))
    said = refused(file, "train.epochs=-1", "launch={stop_signal: 3}")
    places = {line.split(": ")[1]: line.split(": ")[0] for line in said.splitlines() if ": " in line}
    assert places["train.seed"] == file
    assert places["train.epochs"] == places["launch.stop_signal"] == "command line"


def test_a_long_value_is_shortened_in_the_message(write, tmp_path):
    assert len(refused(write(GOOD), f"train.epochs={'x' * 5000}").splitlines()[0]) < 200
    (tmp_path / "text.yaml").write_text("word " * 2000)
    assert len(refused(str(tmp_path / "text.yaml")).splitlines()[0]) < 200 + len(str(tmp_path))


def test_overrides_are_read_as_yaml_and_leave_the_file_alone(write):
    loaded = load_experiment(
        write(GOOD), ["train.learning_rate=1e-3", "train.optimizer={name: adam}", "resources.time_limit='1-00:00:00'"]
    ).experiment
    assert loaded.train.learning_rate.base == 0.001
    assert loaded.train.optimizer.name == "adam"
    assert loaded.resources.time_limit == "1-00:00:00"
    values = {"a": {"b": 1}}
    assert overridden(values, ["a.b=2", "a.c.d=x"]) == {"a": {"b": 2, "c": {"d": "x"}}}
    assert values == {"a": {"b": 1}}


def test_one_kind_of_batch_size_replaces_the_other(write):
    weak = load_experiment(write(GOOD), ["train.batch_size_per_rank=8"], ranks=4).experiment
    assert weak.train.global_batch_size is None
    assert weak.global_batch_size == 32


@pytest.mark.parametrize("text", ["train.epochs", "=3", "train..epochs=3", "name.deeper=3"])
def test_an_override_that_is_none_is_refused(write, text):
    assert "command line" in refused(write(GOOD), text)


def test_ranks_are_spread_over_the_nodes_that_the_file_names(write):
    file = write(GOOD + "resources: {nodes: 2}\n")
    spread = load_experiment(file, ranks=4).experiment.resources
    assert (spread.nodes, spread.ranks_per_node) == (2, 2)
    assert "3 ranks cannot be spread evenly over 2 nodes" in refused(file, ranks=3)
    assert "0 ranks" in refused(file, ranks=0)


def test_user_code_is_found_beside_the_file_and_never_run(write, tmp_path):
    (tmp_path / "mymodels.py").write_text("import sys\nsys.exit('it was run')\ndef tiny(classes=10):\n    ...\n")
    file = write(GOOD)
    said = refused(file, "model={build: 'mymodels:tinny'}")
    assert "defines no 'tinny'" in said
    assert "did you mean 'tiny'" in said
    assert load_experiment(file, ["model={build: 'mymodels:tiny'}"]).experiment.model.build == "mymodels:tiny"


def test_an_unknown_name_says_which_names_are_shipped(tmp_path):
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        find("experiments", "quikstart")
    with pytest.raises(UserError, match="is a folder"):
        find("experiments", f"{tmp_path}/.")
