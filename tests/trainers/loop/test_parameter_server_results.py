"""Results that are lost with the worker that holds them; ``test_parameter_servers.py`` kills real workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from saman.trainers.keras_compat import tf
from saman.trainers.loop.parameter_server_step import _Result

pytestmark = pytest.mark.tensorflow
GONE = tf.errors.UnavailableError(None, None, "sendmsg: Broken pipe (32)")
WRONG = tf.errors.InternalError(None, None, "not the worker's end")


class Remote:
    """Stands in for TensorFlow's ``RemoteValue``, which is made by a cluster only."""

    def __init__(self, found: object) -> None:
        self._found = found

    def fetch(self) -> object:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def scheduling(*found: object) -> tuple[Callable[[], Remote], list[object]]:
    """A function that returns a ``Remote`` for each of ``found`` in turn, and the list of those that it returned."""
    asked: list[object] = []

    def schedule() -> Remote:
        asked.append(found[len(asked)])
        return Remote(asked[-1])

    return schedule, asked


def test_a_result_that_is_lost_with_its_worker_is_computed_again() -> None:
    schedule, asked = scheduling(GONE, 7)
    result = _Result(schedule, workers=2)
    assert result.value() == 7 and result.value() == 7
    assert len(asked) == 2


def test_it_is_computed_at_most_once_by_each_worker() -> None:
    schedule, asked = scheduling(GONE, GONE, GONE, 7)
    with pytest.raises(tf.errors.UnavailableError):
        _Result(schedule, workers=3).value()
    assert len(asked) == 3


def test_other_errors_are_not_repeated() -> None:
    schedule, asked = scheduling(WRONG, 7)
    with pytest.raises(tf.errors.InternalError):
        _Result(schedule, workers=3).value()
    assert len(asked) == 1
