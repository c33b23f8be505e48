"""The error for people: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit statuses of saman."""

    DONE = 0
    RUN_FAILED = 1
    BAD_REQUEST = 2
    ENVIRONMENT = 3
    REQUEUE = 85  # checkpointed on request; to be requeued
    INTERRUPTED = 130


class UserError(Exception):
    """A mistake that the user can correct; printed without a traceback.

    Args:
        problem: what is wrong.
        where: the file and the key path, or the option.
        remedy: what to do, or what would be valid.
        others: further mistakes that were found at the same time.
    """

    exit_code: ExitCode = ExitCode.BAD_REQUEST

    def __init__(
        self, problem: str, *, where: str | None = None, remedy: str | None = None, others: Iterable[UserError] = ()
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.remedy = remedy
        self.others = tuple(others)

    def __str__(self) -> str:
        return "\n".join(error.one_line() for error in (self, *self.others))

    def one_line(self) -> str:
        """Return this mistake as ``where: problem (remedy)``, without the others."""
        text = f"{self.where}: {self.problem}" if self.where else self.problem
        return f"{text} ({self.remedy})" if self.remedy else text


class EnvironmentLack(UserError):  # noqa: N818  (a lack, not a mistake)
    """The machine or its software lacks something; the request itself is valid."""

    exit_code = ExitCode.ENVIRONMENT


def choices(value: object, valid: Iterable[str]) -> str:
    """List the valid values, after the value with the nearest spelling.

    >>> choices("sgdd", ["adam", "sgd"])
    "did you mean 'sgd'? valid: adam, sgd"
    """
    names = sorted(valid)
    near = get_close_matches(str(value), names, n=1, cutoff=0.6)
    listed = "valid: " + ", ".join(names)
    return f"did you mean {near[0]!r}? {listed}" if near else listed
