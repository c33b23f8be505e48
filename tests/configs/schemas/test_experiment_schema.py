"""The schema of an experiment: what follows from its values, and short forms that mean the same as long forms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from saman.configs.problems import validated
from saman.configs.schemas.experiment import STALL_SECONDS, Experiment, digest_of
from saman.configs.schemas.training import global_batch_size


def experiment(resources: Any = None, data: Any = None, **train: Any) -> Experiment:
    """A small experiment with these resources, data and training."""
    values = {
        "name": "made",
        "model": {"build": "mlp"},
        "data": {"source": "digits", **(data or {})},
        "train": {"strategy": "horovod", "global_batch_size": 64, **train},
        "resources": resources or {},
    }
    return validated(Experiment, values, "made.yaml")


@pytest.mark.parametrize(
    ("strategy", "train", "stages", "devices", "horovod"),
    [
        ("horovod", {}, 1, 1, True),
        ("multi_worker", {}, 1, 1, False),
        ("mirrored", {}, 1, 4, False),
        ("pipeline", {}, 2, 1, True),
        ("pipeline", {"pipeline": {"stages": 4}}, 4, 1, True),
        ("pipeline", {"pipeline": {"stages": 4, "devices": "local"}}, 4, 4, False),
    ],
)
def test_four_ranks_of_a_node_form_processes_and_copies_of_the_model(
    strategy: str, train: dict[str, Any], stages: int, devices: int, horovod: bool
) -> None:
    found = experiment({"ranks_per_node": 4}, strategy=strategy, **train)
    assert (found.stages, found.replicas, found.devices_per_process) == (stages, 4 // stages, devices)
    assert found.uses_horovod is horovod


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"optimizer": "adam"}, {"optimizer": {"name": "adam", "beta_1": 0.9}}),
        ({"learning_rate": 0.1}, {"learning_rate": {"base": 0.1, "scale": "none"}}),
        (
            {"learning_rate": {"base": 0.1, "schedule": "cosine"}},
            {"learning_rate": {"base": 0.1, "schedule": {"name": "cosine", "final_fraction": 0}}},
        ),
        ({"strategy": "pipeline"}, {"strategy": "pipeline", "pipeline": {"stages": 2, "cuts": "auto"}}),
    ],
)
def test_a_short_form_is_the_long_form_with_its_defaults(short: dict[str, Any], long: dict[str, Any]) -> None:
    two = {"ranks_per_node": 2}
    assert experiment(two, **short).resolved() == experiment(two, **long).resolved()


@given(some.integers(1, 4), some.integers(1, 6), some.integers(1, 5), some.integers(1, 4), some.booleans())
def test_a_resolved_experiment_is_itself_and_its_batch_divides(
    nodes: int, per_node: int, per_rank: int, micro_batches: int, weak: bool
) -> None:
    ranks, size = nodes * per_node, per_rank * micro_batches
    batch = {"batch_size_per_rank": size, "global_batch_size": None} if weak else {"global_batch_size": size * ranks}
    found = experiment({"nodes": nodes, "ranks_per_node": per_node}, micro_batches=micro_batches, **batch)
    again = Experiment.model_validate(found.resolved())
    assert again == found and again.digest() == found.digest()
    assert found.global_batch_size == size * ranks == global_batch_size(None, size, ranks)


def test_a_digest_changes_with_every_value_and_not_with_the_order_of_keys() -> None:
    plain = experiment().resolved()
    assert digest_of(dict(reversed(plain.items()))) == digest_of(plain)
    assert experiment(seed=1).digest() != experiment().digest()


def test_only_classifiers_have_an_accuracy_and_only_validated_runs_have_val_metrics() -> None:
    assert experiment().metrics() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert experiment(loss="mean_squared_error").metrics() == {"loss", "val_loss"}
    assert experiment(data={"validation_fraction": 0}).metrics() == {"loss", "accuracy"}


def test_a_limit_for_one_phase_leaves_the_others_as_they_are() -> None:
    values = experiment().resolved()
    values["launch"]["stall_seconds"] = {"train": 5}
    found = Experiment.model_validate(values).launch.stall_seconds
    assert found == {**STALL_SECONDS, "train": 5}
