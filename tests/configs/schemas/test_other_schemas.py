"""Policies, tracking, pipelines and programs: what leaves a choice open is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.policy import Policy
from saman.configs.schemas.script import Script
from saman.configs.schemas.splitting import Pipeline
from saman.configs.schemas.tracking import Tracking
from saman.configs.schemas.training import Train

PROGRAM = {"name": "theirs", "command": ["python", "train.py"], "directory": "/tmp"}


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (Policy, {"metrics": [{"metric": "val_loss"}]}),  # no bound
        (Policy, {"metrics": [{"metric": "val_loss", "at_least": 0, "at_most": 1}]}),
        (Policy, {"compare": {"confidence": 0.5}}),  # a coin decides
        (Policy, {"approvals": {"at_least": 0}}),
        (Policy, {"signature": "maybe"}),
        (Tracking, {}),  # nowhere
        (Tracking, {"mlflow": "host:5000/with blank"}),
        (Pipeline, {"stages": 3, "cuts": ["dense"]}),
        (Pipeline, {"memory_limit": "much"}),
        (Script, {**PROGRAM, "command": []}),
        (Script, {**PROGRAM, "train": {}}),
        (Train, {}),  # no batch size
        (Train, {"global_batch_size": 8, "batch_size_per_rank": 8}),
        (Train, {"global_batch_size": 8, "clip_gradients": {}}),
        (Train, {"global_batch_size": 8, "clip_gradients": {"global_norm": 1, "value": 1}}),
        (Train, {"global_batch_size": 8, "learning_rate": {"base": 0.1, "scale": "linear"}}),
        (Train, {"global_batch_size": 8, "optimizer": {"name": "adam", "momentum": 0.9}}),
    ],
)
def test_values_that_leave_a_choice_open_are_refused(schema: type[BaseModel], values: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        validated(schema, values, "x.yaml")


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (Policy, {}),
        (
            Policy,
            {"metrics": [{"metric": "val_accuracy", "at_least": 0.9}], "compare": {}, "approvals": {"by": ["ada"]}},
        ),
        (Tracking, {"mlflow": "http://127.0.0.1:5000"}),
        (Tracking, {"mlflow": "sqlite:///runs.db", "tensorboard": "board"}),
        (Pipeline, {"stages": 3, "cuts": ["dense", "dense_1"], "memory_limit": "512M"}),
        (Script, PROGRAM),
        (Train, {"batch_size_per_rank": 8, "clip_gradients": {"value": 1}}),
    ],
)
def test_values_in_full_are_taken_and_resolve_to_themselves(schema: type[BaseModel], values: dict[str, Any]) -> None:
    made = validated(schema, values, "x.yaml")
    assert validated(schema, made.model_dump(mode="json", by_alias=True), "x.yaml") == made


def test_a_program_has_a_process_for_each_rank() -> None:
    assert validated(Script, PROGRAM, "x").devices_per_process == 1
