"""What the tests submit to the minicluster, and how they wait for it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.slurm.conftest import until

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.jobs.logs import read_logs
from saman.jobs.reconcile import reconcile
from saman.jobs.status import RunStatus
from saman.runs.folder import RunFolder
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm


def site(**changes: Any) -> Cluster:
    """The minicluster's file with some keys changed."""
    values = load_cluster("minicluster").model_dump(mode="json", by_alias=True)
    return validated(Cluster, {**values, **changes}, "minicluster")


def script(name: str, command: Sequence[str], directory: Path, **resources: Any) -> Script:
    """A program as a run: one core per rank, so that several runs share the nodes."""
    wanted = {"nodes": 1, "ranks_per_node": 1, "cpus_per_rank": 1, "time_limit": "00:05:00", **resources}
    values = {"name": name, "command": list(command), "directory": str(directory), "resources": wanted}
    return validated(Script, values, "test")


def bash(name: str, text: str, directory: Path, **resources: Any) -> Script:
    """A line of bash as a run."""
    return script(name, ["bash", "-c", text], directory, **resources)


def saman(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command of saman in a folder."""
    command = [sys.executable, "-m", "saman", *words]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=200, check=False)


def submit_line(home: Path, text: str, *options: str) -> RunFolder:
    """Type a submission of a line of bash on one core."""
    site_options = ["--cluster", "minicluster", "--partition", "main", "--no-snapshot", "resources.cpus_per_rank=1"]
    done = saman(home, "submit", *site_options, "--json", *options, "--", "bash", "-c", text)
    assert done.returncode == 0, done.stderr
    return RunFolder.open(Path(json.loads(done.stdout)["run"]))


def submitted(spec: Any, cluster: Cluster, shared: Path, **options: Any) -> slurm.Submission:
    """Submit to the partition ``main`` unless another is named."""
    plan = planning.plan(spec, cluster, shared / "runs", options.pop("partition", "main"), {})
    return slurm.submit(plan, models_dir=options.pop("models_dir", shared / "models"), **options)


def standing(run: RunFolder) -> RunStatus:
    """Where the run stands."""
    return reconcile([run])[0]


def wait_for(run: RunFolder, *states: str, seconds: float = 120) -> RunStatus:
    """Wait until the run is in one of the states (any end, if none is named)."""
    found: list[RunStatus] = []

    def there() -> bool:
        found[:] = reconcile([run])
        return found[0].state in states if states else found[0].over

    try:
        until(there, seconds, every=0.4)
    except BaseException:
        print(told(run))
        raise
    return found[0]


def told(run: RunFolder) -> str:
    """All that a run left, for the message of a failing test."""
    files = [run.path / "slurm/job.out", run.events_file, *sorted(run.path.glob("attempts/*/starter.log"))]
    files += sorted(run.path.glob("attempts/*/ranks/*.log")) + sorted(run.path.glob("attempts/*/nodes/*.log"))
    return "\n".join(f"--- {file}\n{file.read_text(errors='replace')[-4000:]}" for file in files if file.exists())


def happened(run: RunFolder, wanted: Sequence[tuple[str, int | None]]) -> bool:
    """Whether the run has all of these events, by kind and attempt, each as often as it is listed."""
    found = [(event.kind, event.attempt) for event in run.events()]
    return all(found.count(each) >= wanted.count(each) for each in wanted)


def nodes_lost(run: RunFolder) -> int:
    """How many node failures the run has recorded."""
    return sum(event.kind == "node_failed" for event in run.events())


def printed(run: RunFolder, rank: int = 0, attempt: int = 1) -> str:
    """What a rank has printed; nothing before it has begun."""
    with contextlib.suppress(UserError):
        return "".join(piece.text for piece in read_logs(run, rank=rank, attempt=attempt))
    return ""
