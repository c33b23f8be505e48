"""Which machine needs ssh for a cluster, and which commands work from there."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.site.access import needs_ssh, require_here


def cluster(**access: Any) -> Cluster:
    values = {"name": "site", "partitions": [{"name": "main", "cores_per_node": 4}]}
    return validated(Cluster, {**values, "access": {"folder": "/scratch", **access}} if access else values, "test")


def test_the_login_node_itself_needs_no_ssh() -> None:
    assert needs_ssh(cluster(ssh="login.example.edu"))
    for here in (cluster(ssh=f"ada@{socket.gethostname()}"), cluster()):
        assert not needs_ssh(here) and require_here(here, "saman preflight") is here


def test_a_command_that_works_on_the_login_node_only_says_so() -> None:
    with pytest.raises(UserError, match="saman preflight works on the login node only") as refused:
        require_here(cluster(ssh="login.example.edu"), "saman preflight")
    assert "ssh login.example.edu" in str(refused.value.remedy)
