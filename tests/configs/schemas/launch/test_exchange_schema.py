"""Horovod's options in an experiment: what cannot be exchanged is refused, and the contract is a property."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from saman.configs.schemas.launch.exchange import Exchange


@pytest.mark.parametrize(
    ("options", "keeps", "plain"),
    [
        ({}, True, True),
        ({"bucket": "4M", "process_sets": [[0, 1]]}, True, True),
        ({"sparse": "auto"}, True, False),
        ({"compression": "fp16"}, False, False),
        ({"compression": "bf16"}, False, False),
        ({"reduction": "adasum"}, False, False),
    ],
)
def test_only_options_that_send_every_digit_keep_the_same_steps(
    options: dict[str, Any], keeps: bool, plain: bool
) -> None:
    exchange = Exchange.model_validate(options)
    assert (exchange.keeps_the_steps, exchange.is_plain) == (keeps, plain)


@pytest.mark.parametrize(
    ("options", "strategy", "ranks", "said"),
    [
        ({"compression": "fp16"}, "mirrored", 2, "mirrored"),
        ({"reduction": "adasum"}, "horovod", 6, "power of two"),
        ({"process_sets": [[0, 4]]}, "horovod", 4, "not a part"),
        ({"process_sets": [[0, 1, 2, 3]]}, "horovod", 4, "not a part"),
    ],
)
def test_what_these_ranks_cannot_exchange_is_named(
    options: dict[str, Any], strategy: str, ranks: int, said: str
) -> None:
    problem = Exchange.model_validate(options).problem_on(strategy, ranks)
    assert problem is not None
    assert said in problem
    assert Exchange().problem_on(strategy, ranks) is None


@pytest.mark.parametrize(
    "options",
    [{"reduction": "adasum", "compression": "fp16"}, {"process_sets": [[1, 1]]}, {"process_sets": [[]]}],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Exchange.model_validate(options)
