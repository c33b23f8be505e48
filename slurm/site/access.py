"""Whether this machine reaches a cluster over ssh, and which commands work from here."""

from __future__ import annotations

import socket

from saman.configs.errors import UserError
from saman.configs.schemas.cluster import Cluster


def needs_ssh(cluster: Cluster) -> bool:
    """Whether this machine reaches the cluster over ssh: its file has ``access``, and this is not the login node."""
    return cluster.access is not None and cluster.access.ssh.rpartition("@")[2] != socket.gethostname()


def require_here(cluster: Cluster, command: str) -> Cluster:
    """Return the cluster; raise ``UserError`` if this is not its login node, for a command that works only there."""
    if needs_ssh(cluster) and cluster.access is not None:
        others = "saman submit, status, logs, wait, cancel, resume and fetch work from here"
        raise UserError(
            f"{command} works on the login node only",
            where=f"cluster {cluster.name}: access.ssh",
            remedy=f"ssh {cluster.access.ssh}, and run it there; {others}",
        )
    return cluster
