"""TF_CONFIG for a program of the user's own, in a plan: the roles are said before anything starts."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import with_ranks
from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.plan.roles import roles_note


def script(ranks: int, **roles: Any) -> Script:
    """A program of a user that gets TF_CONFIG."""
    values = {"name": "s", "command": ["python"], "directory": "/", "launch": {"tf_config": roles}}
    return validated(Script, with_ranks(values, ranks), "test")


def test_a_program_of_the_user_gets_the_roles_that_it_asks_for() -> None:
    assert (roles_note(script(3, chief=True, evaluator=True)) or "") == (
        "TF_CONFIG: rank 0 is chief 0, rank 1 is worker 0, rank 2 is evaluator 0"
    )
    with pytest.raises(UserError, match="these roles need 4 ranks"):
        script(3, chief=True, servers=1, evaluator=True)


def test_an_experiment_leaves_tf_config_to_its_strategy() -> None:
    values = {"name": "x", "model": {"build": "mlp"}, "data": {"source": "digits"}, "launch": {"tf_config": {}}}
    values["train"] = {"global_batch_size": 8}
    with pytest.raises(UserError, match="sets TF_CONFIG itself"):
        validated(Experiment, values, "test")
