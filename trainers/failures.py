"""Classifies a rank's failure: a mistake of the user, the loss of a peer, or an error of its own. Pure."""

from __future__ import annotations

import re

from saman.configs.errors import UserError
from saman.runs.ranks.rank_events import FailureKind

# Messages of communication libraries after another process has ended.
_PEER_LOST = re.compile(
    r"Horovod has been shut down|HorovodInternalError|Horovod(Allreduce|Broadcast|Allgather).*(failed|aborted)"
    r"|Connection (reset|closed|refused)|Socket closed|Broken pipe|Collective ops is aborted|peer is down"
    r"|failed to connect to all addresses|has been aborted by|Barrier|[Hh]eartbeat timeout|gloo.*(timed out|Timeout)"
    r"|remote process exited|ncclRemoteError|ncclSystemError|MPI_ERR_PROC_FAILED"
)
_ERRORS_OF_LOST_PEERS = (
    "UnavailableError",
    "HorovodInternalError",
    "ConnectionResetError",
    "BrokenPipeError",
    "StageLost",
    "PeerFailure",
)
# These also have other causes: the message decides.
_AMBIGUOUS_ERRORS = ("UnavailableError", "AbortedError", "HorovodInternalError", "UnknownError", "InternalError")
_MOST_CHARACTERS = 500


class TrainingFailure(Exception):  # noqa: N818  (a failure that the training itself found; no traceback explains it)
    """The training found that it failed, here or on all ranks."""


class UserCodeError(Exception):
    """A user's function failed; the message names the function, its arguments and the rank."""


class PeerFailure(TrainingFailure):
    """The training found that another rank failed."""


def failure_kind(error: BaseException) -> FailureKind:
    """Return the kind of a failure, as ``rank_failed`` events name it."""
    if isinstance(error, UserError):
        return FailureKind.USER_ERROR
    if isinstance(error, UserCodeError):
        return FailureKind.USER_CODE
    names = {kind.__name__ for kind in type(error).__mro__}
    ambiguous = names & set(_AMBIGUOUS_ERRORS)
    if names & set(_ERRORS_OF_LOST_PEERS) or (ambiguous and _PEER_LOST.search(str(error))):
        return FailureKind.PEER_LOST
    return FailureKind.ERROR


def describe_failure(error: BaseException) -> str:
    """Return a line for the event: a user's mistake in full, else the error's type and its most telling line.

    >>> describe_failure(ValueError("first\\nsecond"))
    'ValueError: first'
    """
    if isinstance(error, (UserError, UserCodeError, TrainingFailure)):
        return str(error)
    text = re.sub(r"\{\{.*?\}\}\s*", "", str(error))  # names of TensorFlow's nodes
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next((line for line in lines if _PEER_LOST.search(line)), lines[0] if lines else "")
    return f"{type(error).__name__}: {telling}".strip(": ")[:_MOST_CHARACTERS]
