"""Exit statuses are an interface: job scripts, CI and follow-up jobs decide by them."""

from __future__ import annotations

from saman.configs.errors import EnvironmentLack, ExitCode, UserError


def test_the_exit_statuses_are_those_that_scripts_rely_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0, "RUN_FAILED": 1, "BAD_REQUEST": 2, "ENVIRONMENT": 3, "REQUEUE": 85, "INTERRUPTED": 130,
    }  # fmt: skip


def test_each_error_carries_its_status() -> None:
    assert UserError("wrong").exit_code == 2
    assert EnvironmentLack("missing").exit_code == 3
