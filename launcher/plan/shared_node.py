"""Whether strategies over gRPC may run beside other users: TensorFlow's server has no authentication. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from saman.configs.errors import UserError
from saman.configs.schemas.training import OVER_GRPC

MOST_NAMED = 3


def check_shared_node(strategy: str, other_users: Sequence[str], in_allocation: bool) -> str | None:
    """Return a note if other users could reach the workers' ports; ``None`` if there is nothing to say.

    Args:
        strategy: ``train.strategy``.
        other_users: Names of the other users with processes on this machine.
        in_allocation: Whether a scheduler allocated this machine; the submission has then checked the cluster file.

    Raises:
        UserError: Outside an allocation, other users are at work on this machine.
    """
    if strategy not in OVER_GRPC or not other_users:
        return None
    more = f" and {len(other_users) - MOST_NAMED} more" if len(other_users) > MOST_NAMED else ""
    who = f"{', '.join(other_users[:MOST_NAMED])}{more}"
    problem = f"other users are at work on this machine ({who}), and {strategy}'s ports would run their graphs as you"
    if in_allocation:
        return problem
    remedy = "strategy mirrored or horovod trains the same here; docs/security.md explains the ports"
    raise UserError(problem, where="train.strategy", remedy=remedy)
