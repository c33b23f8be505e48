"""What a rank's failure was: a mistake of the user's, the loss of a peer, or an error of its own. Pure."""

from __future__ import annotations

import re

from saman.configs.errors import UserError

# What communication libraries say when somebody else has gone.
_PEER_LOST = re.compile(
    r"Horovod has been shut down|HorovodInternalError|Horovod(Allreduce|Broadcast|Allgather).*(failed|aborted)"
    r"|Connection (reset|closed|refused)|Socket closed|Broken pipe|Collective ops is aborted|peer is down"
    r"|failed to connect to all addresses|has been aborted by|Barrier|[Hh]eartbeat timeout|gloo.*(timed out|Timeout)"
    r"|remote process exited|ncclRemoteError|ncclSystemError|MPI_ERR_PROC_FAILED"
)
_PEER_ERRORS = ("UnavailableError", "AbortedError", "HorovodInternalError", "UnknownError", "InternalError")
_PEER_SURE = ("UnavailableError", "HorovodInternalError", "ConnectionResetError", "BrokenPipeError", "StageLost")


def failure_of(error: BaseException) -> str:
    """``user_error``, ``peer_lost`` or ``error``, as ``rank_failed`` events name it."""
    if isinstance(error, UserError):
        return "user_error"
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & set(_PEER_SURE):
        return "peer_lost"
    return "peer_lost" if kinds & set(_PEER_ERRORS) and _PEER_LOST.search(str(error)) else "error"


def message_of(error: BaseException) -> str:
    """One line for the event: the mistake as a person reads it, else the error's kind and last line."""
    if isinstance(error, UserError):
        return str(error)
    text = re.sub(r"\{\{.*?\}\}\s*", "", str(error))  # TensorFlow's names of nodes
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = next((line for line in lines if _PEER_LOST.search(line)), lines[0] if lines else "")
    return f"{type(error).__name__}: {told}".strip(": ")[:500]
