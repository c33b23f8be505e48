"""Horovod's options on two real ranks, started once: those that keep the same steps do, the others stay near."""

from __future__ import annotations

from typing import Any

import pytest
from rank_starts import distance, experiment, final, make_run, train
from training_cases import CASES

from saman.configs.schemas.launch.exchange import Exchange
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.slow, pytest.mark.mpi]

CASE = CASES["two_inputs"] | {"model": {"build": "training_cases:wide_embedding"}}
# Name -> the options, and the largest relative distance of a tensor from the steps of one rank, in float64.
OPTIONS: dict[str, tuple[dict[str, Any], float]] = {
    "small buckets": ({"bucket": "1K"}, 1e-10),
    "few rows of the embedding": ({"sparse": "auto"}, 1e-10),
    "too many rows": ({"sparse": "auto", "sparse_density": 0.01}, 1e-10),
    "a process set": ({"process_sets": [[0]]}, 1e-10),
    "fp16": ({"compression": "fp16"}, 5e-3),
    "bf16": ({"compression": "bf16"}, 2e-2),
    "adasum": ({"reduction": "adasum"}, float("inf")),
}


@pytest.fixture(scope="module")
def distances(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """The distance of every option from a single rank, each on two ranks that were started once."""
    sgd = {"optimizer": {"name": "sgd", "momentum": 0.9}, "epochs": 1}
    reference = make_run(tmp_path_factory.mktemp("single"), experiment(CASE, "single", 1, **sgd))
    train(1, reference)
    folder = tmp_path_factory.mktemp("options")
    runs: dict[str, RunFolder] = {}
    for name, (options, _) in OPTIONS.items():
        runs[name] = make_run(folder, experiment(CASE, "horovod", 2, exchange=options, **sgd))
    train(2, *runs.values())
    return {name: distance(final(run), final(reference)) for name, run in runs.items()}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_keeps_the_same_steps_where_it_says_so(distances: dict[str, float], name: str) -> None:
    options, limit = OPTIONS[name]
    assert distances[name] <= limit, distances
    if not Exchange.model_validate(options).keeps_the_steps:
        assert distances[name] > 1e-6, "the option changed nothing"
