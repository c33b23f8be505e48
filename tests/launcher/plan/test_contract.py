"""Every option of the exchange says in the plan whether the steps are still those of a single rank."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.launch.exchange import Exchange, HorovodEngine
from saman.launcher.plan.contract import contract_note

KEPT: dict[str, dict[str, Any]] = {
    "train.exchange.sparse": {"exchange": {"sparse": "auto"}},
    "train.exchange.bucket": {"exchange": {"bucket": "4M"}},
    "train.exchange.process_sets": {"exchange": {"process_sets": [[0]]}},
    "train.micro_batches": {"micro_batches": 2},
    "launch.horovod.fusion_threshold": {"engine": {"fusion_threshold": "8M"}},
    "launch.horovod.cycle_time_ms": {"engine": {"cycle_time_ms": 2}},
    "launch.horovod.hierarchical_allreduce": {"engine": {"hierarchical_allreduce": True}},
    "launch.horovod.timeline": {"engine": {"timeline": True}},
    "launch.horovod.autotune": {"engine": {"autotune": True}},
}
OTHERS: list[dict[str, Any]] = [{"compression": "fp16"}, {"compression": "bf16"}, {"reduction": "adasum"}]


def note(ranks: int = 2, strategy: str = "horovod", engine: Any = None, **train: Any) -> str | None:
    values = {
        "name": "options",
        "model": {"build": "mlp"},
        "data": {"source": "digits"},
        "train": {"strategy": strategy, "global_batch_size": 32, **train},
        "resources": {"ranks_per_node": ranks},
        "launch": {"horovod": engine or {}},
    }
    return contract_note(validated(Experiment, values, "test"))


@pytest.mark.parametrize("key", KEPT)
def test_an_option_that_keeps_the_steps_says_so(key: str) -> None:
    said = note(**KEPT[key])
    assert said is not None and key in said and "the same steps as a single rank" in said and "not the" not in said


@pytest.mark.parametrize("exchange", OTHERS)
def test_an_option_that_changes_the_steps_says_so(exchange: dict[str, Any]) -> None:
    assert not Exchange.model_validate(exchange).keeps_the_steps
    said = note(exchange=exchange, engine={"timeline": True})
    assert said is not None and said.startswith("not the same steps as a single rank") and "launch.horovod" in said


def test_every_option_of_horovod_is_in_these_tests() -> None:
    tried = {key.rpartition(".")[2] for key in KEPT} | {key for options in OTHERS for key in options}
    assert {*Exchange.model_fields, *HorovodEngine.model_fields} - {"sparse_density"} <= tried


def test_a_strategy_without_horovod_says_that_it_uses_no_engine() -> None:
    assert "does not use launch.horovod.timeline" in (note(strategy="mirrored", engine={"timeline": True}) or "")
    assert note(strategy="mirrored") is None


def test_plain_exchanges_and_single_ranks_need_no_sentence() -> None:
    assert note() is None
    assert note(ranks=1, exchange={"compression": "fp16"}) is None
