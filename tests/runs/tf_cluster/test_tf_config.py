"""Processes agree on ports and on roles for TF_CONFIG, and learn of their coordinator's end."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.runs.ranks.identity import ProcessIdentity
from saman.runs.tf_cluster.addresses import WorkerAddress, agree_on_ports, endpoints
from saman.runs.tf_cluster.farewell import Farewell, wait_for_farewell
from saman.runs.tf_cluster.port_gate import PortGate
from saman.runs.tf_cluster.roles import Roles, tf_config


def test_workers_agree_on_ports_that_nobody_can_take_meanwhile(tmp_path: Path) -> None:
    found: dict[int, tuple[PortGate, list[WorkerAddress]]] = {}

    def join(process: int) -> None:
        found[process] = agree_on_ports(tmp_path, ProcessIdentity(process, 3), {}, 20)

    threads = [threading.Thread(target=join, args=(process,)) for process in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0][1] == found[1][1] == found[2][1]
    ports = [worker.port for worker in found[0][1]]
    assert len(set(ports)) == 3
    for port in ports:
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("", port))
    for held, _ in found.values():
        held.close()


def test_a_worker_that_never_comes_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLack, match=r"\[1\]"):
        agree_on_ports(tmp_path, ProcessIdentity(0, 2), {}, 0.1)


def test_tf_config_names_hosts_only_across_machines() -> None:
    here = [WorkerAddress("a", "a", 1), WorkerAddress("a", "a", 2)]
    assert endpoints(here) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert endpoints([here[0], WorkerAddress("b", "10.0.0.2", 2)]) == ["a:1", "10.0.0.2:2"]
    assert tf_config(["a:1", "b:2"], 1)["task"] == {"type": "worker", "index": 1}


def test_tf_config_has_the_roles_in_their_order() -> None:
    roles, listed = Roles(chief=True, servers=1, evaluator=True), [f"h:{port}" for port in range(5)]
    found = [tf_config(listed, index, roles) for index in range(5)]
    assert found[0]["cluster"] == {"chief": ["h:0"], "ps": ["h:1"], "worker": ["h:2", "h:3"]}
    assert all(each["cluster"] == found[0]["cluster"] for each in found)
    assert [(each["task"]["type"], each["task"]["index"]) for each in found] == [
        *(("chief", 0), ("ps", 0), ("worker", 0), ("worker", 1), ("evaluator", 0))
    ]
    assert Roles.from_text(roles.text) == roles
    with pytest.raises(ValueError, match="fewer than the 4"):
        roles.tasks(3)


def test_only_who_knows_the_token_learns_of_a_farewell() -> None:
    farewell, heard = Farewell("127.0.0.1"), {}

    def wait(name: str, token: str) -> None:
        heard[name] = wait_for_farewell("127.0.0.1", farewell.port, token)

    friend = threading.Thread(target=wait, args=("friend", farewell.token))
    stranger = threading.Thread(target=wait, args=("stranger", "0" * len(farewell.token)))
    friend.start(), stranger.start()
    stranger.join()
    while not farewell.waiting:
        pass
    farewell.say()
    friend.join()
    assert heard == {"friend": True, "stranger": False}


def test_a_coordinator_that_is_lost_says_no_farewell() -> None:
    with socket.create_server(("127.0.0.1", 0)) as lost:
        heard: list[bool] = []
        waiting = threading.Thread(
            target=lambda: heard.append(wait_for_farewell("127.0.0.1", lost.getsockname()[1], "0" * 32))
        )
        waiting.start()
        peer, _ = lost.accept()
        peer.close()
        waiting.join()
    assert heard == [False]
