"""Gives a user's program TF_CONFIG: its process joins the others of the run before the program starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from saman.runs.folder import RunFolder
from saman.runs.ranks.identity import ProcessIdentity
from saman.runs.ranks.interfaces import resolve
from saman.runs.tf_cluster.addresses import agree_on_ports, endpoints, meeting_folder, sources_of
from saman.runs.tf_cluster.port_gate import PortGate
from saman.runs.tf_cluster.roles import Roles, tf_config


@dataclass(frozen=True)
class JoinedCluster:
    """A process among the others. ``gate`` holds its port as long as it lives; ``environment`` is for its program."""

    gate: PortGate
    environment: Mapping[str, str]


def join_cluster(
    run: RunFolder, attempt: int, me: ProcessIdentity, roles: str, environ: Mapping[str, str]
) -> JoinedCluster:
    """Agree on ports with the other processes.

    Args:
        run: The run folder.
        attempt: The number of the attempt.
        me: This process.
        roles: The roles beside workers (``Roles.text``).
        environ: The variables of the program, with this node's address.

    Raises:
        EnvironmentLack: A process did not publish its address in time.
    """
    gate, found = agree_on_ports(meeting_folder(run, attempt, environ), me, environ)
    gate.guard(sources_of(found, resolve))
    config = tf_config(endpoints(found), me.process, Roles.from_text(roles))
    # TensorFlow listens on the port behind the gate.
    return JoinedCluster(gate, {"TF_CONFIG": json.dumps(config), "TF_GRPC_REUSE_PORT": "1"})
