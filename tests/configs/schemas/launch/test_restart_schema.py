"""``launch.restart``, ``resources.spare_nodes`` and ``train.checkpoint.every``: what users may write."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from saman.configs.schemas.experiment import Launch, Resources
from saman.configs.schemas.launch.restart import Restart
from saman.configs.schemas.training import CheckpointPolicy
from saman.configs.units import parse_span


def test_a_run_starts_again_by_itself_only_if_its_user_asks() -> None:
    assert Launch.model_validate({}).restart is None
    assert Launch.model_validate({"restart": {}}).restart == Restart(times=5, window="1h")
    assert Resources().spare_nodes == 0
    assert CheckpointPolicy().every is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("1h", 3600), ("2d", 172800), ("00:10:00", 600)]
)
def test_a_window_is_a_number_with_its_unit_or_a_clock(text: str, seconds: int) -> None:
    assert parse_span(text) == seconds
    assert Restart(window=text).window_seconds == seconds


@pytest.mark.parametrize("wrong", ["0s", "1", "an hour", "-5m", "1 h", ""])
def test_a_window_without_a_length_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        Restart(window=wrong)


def test_no_restart_is_refused_where_null_was_meant() -> None:
    with pytest.raises(ValidationError):
        Restart(times=0)
