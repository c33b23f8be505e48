"""Ranks find their identity under every starter; failures are classified."""

from __future__ import annotations

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.experiment import Experiment
from saman.trainers.failures import describe_failure, failure_kind
from saman.trainers.identity import identify_worker


def experiment(ranks: int) -> Experiment:
    """An experiment for ranks of a process each."""
    return Experiment.model_validate(
        {
            "name": "identity",
            "model": {"build": "mlp"},
            "data": {"source": "digits"},
            "train": {"strategy": "horovod", "global_batch_size": 24},
            "resources": {"ranks_per_node": ranks},
        }
    )


@pytest.mark.parametrize(
    ("environ", "process", "ranks"),
    [
        ({}, 0, (0,)),
        ({"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2", "OMPI_COMM_WORLD_RANK": "0"}, 1, (1,)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1, (1,)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, 1, (1,)),
        ({"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2", "SAMAN_RANKS_HERE": "2", "SAMAN_SIZE": "4"}, 1, (2, 3)),
    ],
)
def test_every_starter_is_understood(environ: dict[str, str], process: int, ranks: tuple[int, ...]) -> None:
    found = identify_worker(environ, experiment(2 if environ else 1))
    assert (found.process.process, found.ranks) == (process, ranks)


def test_a_wrong_number_of_processes_is_refused_with_the_right_one() -> None:
    with pytest.raises(UserError, match="start 4 processes"):
        identify_worker({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "3"}, experiment(4))


class UnknownError(Exception):
    """Has the name of TensorFlow's error."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (UserError("no"), "user_error"),
        (EnvironmentLack("no"), "user_error"),
        (ValueError("Connection reset by peer"), "error"),
        (ConnectionResetError("gone"), "peer_lost"),
        (UnknownError("Horovod has been shut down. This was caused by"), "peer_lost"),
        (UnknownError("the user's own"), "error"),
    ],
)
def test_the_loss_of_a_peer_is_told_from_an_own_failure(error: Exception, failure: str) -> None:
    assert failure_kind(error).value == failure


def test_a_message_is_one_line_that_names_the_error() -> None:
    assert describe_failure(ValueError("first\nsecond")) == "ValueError: first"
