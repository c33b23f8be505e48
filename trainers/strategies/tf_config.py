"""TF_CONFIG for ``multi_worker``: workers agree on free ports through the run folder, so that nothing is fixed.

Each worker binds a free port, publishes where it is, and keeps the port bound until TensorFlow listens on it as well
(SO_REUSEPORT), so that nobody can take it in between.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.configs.files import read_json, write_json
from saman.runs import variables
from saman.runs.folder import RunFolder
from saman.runs.paths import port_file
from saman.trainers.identity import RankIdentity

WAIT_SECONDS = 300.0


def tf_config(workers: Sequence[str], index: int) -> dict[str, Any]:
    """The value of TF_CONFIG for worker ``index`` of ``workers`` (``host:port`` each); worker 0 is the chief."""
    return {"cluster": {"worker": list(workers)}, "task": {"type": "worker", "index": index}}


def addresses(published: Sequence[dict[str, Any]]) -> list[str]:
    """``host:port`` of each worker; the loop-back address where all are on one machine."""
    alone = len({one["host"] for one in published}) == 1
    return [f"{'localhost' if alone else one['address']}:{one['port']}" for one in published]


# What all processes of one start have in common and other starts have not, as the starters name it.
_STARTS = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID", "HOROVOD_GLOO_RENDEZVOUS_PORT", "SLURM_STEP_ID")


def meeting_place(run: RunFolder, me: RankIdentity, environment: Mapping[str, str]) -> Path:
    """The folder where the workers of this start, and of no other, publish their ports."""
    if me.attempt:
        return run.attempt(me.attempt).ports
    started_by_hand = next((environment[name] for name in _STARTS if name in environment), str(os.getppid()))
    return run.ports_of_start(started_by_hand)


def agree_on_ports(
    folder: Path, me: RankIdentity, wait_seconds: float = WAIT_SECONDS
) -> tuple[socket.socket, list[str]]:
    """This worker's bound port, which the caller closes later, and every worker's address in order.

    Raises ``EnvironmentLack`` naming the workers that did not publish theirs in time.
    """
    held = _free_port()
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    mine = {"host": host, "address": os.environ.get(variables.ADDRESS, host), "port": held.getsockname()[1]}
    write_json(port_file(folder, me.process), mine)
    deadline = time.monotonic() + wait_seconds
    while True:
        published = [read_json(port_file(folder, process)) for process in range(me.processes)]
        missing = [process for process, value in enumerate(published) if value is None]
        if not missing:
            return held, addresses([value for value in published if value is not None])
        if time.monotonic() > deadline:
            held.close()
            raise EnvironmentLack(
                f"after {wait_seconds:.0f} s, workers {missing} had not published their ports",
                where=str(folder),
                remedy="all workers need the run folder on a file system that they share",
            )
        time.sleep(0.02)


def _free_port() -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("", 0))
    return held
