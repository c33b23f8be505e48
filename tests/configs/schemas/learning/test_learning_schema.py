"""Losses, metrics, optimisers, schedules and callbacks are checked by name before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.learning.keras_names import improves_by_falling
from saman.configs.schemas.training import Train


def train(**values: Any) -> Train:
    return validated(Train, {"global_batch_size": 8, **values}, "my.yaml")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"loss": "hubber"}, "loss: 'hubber' .*did you mean 'huber'"),
        ({"optimizer": "rmsprp"}, "optimizer.name: .*did you mean 'rmsprop'"),
        ({"optimizer": {"name": "adam", "beta": 2}}, "optimizer.beta: unknown key"),
        ({"optimizer": {"name": "rmsprop", "args": {"learning_rate": 1}}}, "learning_rate has a key of its own"),
        ({"metrics": ["auk"]}, r"metrics\[0\].name: .*did you mean 'auc'"),
        ({"metrics": ["auc", "AUC"]}, "metrics: auc stands twice"),
        ({"callbacks": ["EarlyStopping"]}, "EarlyStopping is not needed; use train.early_stop"),
        ({"label_smoothing": 0.1, "loss": "huber"}, "label_smoothing: huber compares no classes"),
        ({"learning_rate": {"base": 0.1, "schedule": "cosin"}}, "schedule.name: .*did you mean 'cosine'"),
        ({"warm_start": "weights/birds.h5"}, "is no .keras file"),
        ({"strategy": "pipeline", "ema": 0.9}, "ema: not with a pipeline"),
        ({"strategy": "pipeline", "optimizer": "lion"}, "a pipeline takes sgd, adam, adamw or lamb"),
        ({"outputs": {"a": {}}, "metrics": ["auc"]}, "each of several outputs has its own"),
    ],
)
def test_mistakes_name_the_key_and_what_is_right(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        train(**values)


def test_names_alone_and_functions_with_arguments_come_back_as_they_were() -> None:
    made = train(
        loss={"name": "mine:focal", "args": {"gamma": 2}},
        metrics=["AUC", {"name": "mine:distance", "as": "far"}],
        optimizer={"name": "mine:make", "args": {"slow": True}},
        learning_rate={"base": 0.1, "schedule": "mine:halve"},
        ema=0.9,
        warm_start="birds:stable",
    )
    assert (made.loss, made.loss_args) == ("mine:focal", {"gamma": 2})
    assert [metric.key for metric in made.metrics] == ["auc", "far"]
    assert Train.model_validate(made.model_dump(mode="json", by_alias=True)) == made


def test_early_stop_and_publication_know_the_metrics_of_every_output() -> None:
    values = {
        "name": "several",
        "model": {"build": "mlp"},
        "data": {"source": "digits"},
        "train": {
            "global_batch_size": 8,
            "outputs": {"digit": {"metrics": ["auc"]}, "angle": {"loss": "huber"}},
            "early_stop": {"metric": "val_digit_auc"},
        },
    }
    names = Experiment.model_validate(values).metrics()
    assert {"loss", "digit_loss", "digit_accuracy", "val_digit_auc", "angle_loss"} <= names
    assert "accuracy" not in names and "angle_accuracy" not in names
    assert improves_by_falling("val_angle_loss") and not improves_by_falling("val_digit_auc")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"loss": "MeanSquaredError"}, {"loss": "mean_squared_error"}),
        ({"loss": {"name": "KLDivergence"}}, {"loss": "kl_divergence"}),
        ({"loss": "mse"}, {"loss": "mean_squared_error"}),
        ({"optimizer": "Adam"}, {"optimizer": "adam"}),
        ({"optimizer": {"name": "SGD", "momentum": 0.9}}, {"optimizer": {"name": "sgd", "momentum": 0.9}}),
        ({"optimizer": "RMSprop"}, {"optimizer": "rmsprop"}),
        ({"outputs": {"a": {"loss": "Huber"}}}, {"outputs": {"a": {"loss": "huber"}}}),
        (
            {"learning_rate": {"base": 0.1, "schedule": {"name": "CosineDecay", "args": {"decay_steps": 9}}}},
            {"learning_rate": {"base": 0.1, "schedule": {"name": "cosine_decay", "args": {"decay_steps": 9}}}},
        ),
    ],
)
def test_the_names_of_keras_classes_and_its_short_names_mean_the_same(theirs: Any, ours: Any) -> None:
    rate = {"learning_rate": 0.1}
    assert train(**{**rate, **theirs}) == train(**{**rate, **ours})
