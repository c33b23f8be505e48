"""Measure nodes, here or on a cluster, and find outliers."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.schemas.cluster import Cluster
from saman.configs.variables_in_text import expand
from saman.jobs.cancel import cancel_runs
from saman.jobs.reconcile import wait_for_runs
from saman.launcher.local import run_script
from saman.launcher.planning import Options
from saman.runs.events import State
from saman.runs.folder import RunFolder
from saman.runs.records.preflight import read_measurements
from saman.slurm import preflight as measured
from saman.slurm.preflight import NodeOutlier
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.job_script import python_of


@dataclass(frozen=True)
class PreflightReport:
    """Measurements of each node by name, outliers, and the run that measured.

    ``gave_up_after`` is the time in seconds after which the job was cancelled, because it had not ended.
    """

    run: RunFolder
    nodes: Mapping[str, Mapping[str, float]]
    outliers: tuple[NodeOutlier, ...]
    gave_up_after: float | None = None

    @property
    def sound(self) -> bool:
        """Whether the preflight job itself completed and measured something."""
        return bool(self.nodes) and self.run.state is State.COMPLETED

    @property
    def option(self) -> str | None:
        """The option of ``saman submit`` that leaves out the outliers of this job's preflight."""
        return measured.exclude_option(self.outliers)


def preflight_cluster(
    cluster: Cluster,
    nodes: int,
    ranks_per_node: int,
    runs_dir: Path,
    *,
    partition: str | None = None,
    timeout_seconds: float = 3600.0,
    started: Callable[[RunFolder], None] = lambda run: None,
) -> PreflightReport:
    """Measure nodes of a cluster in a short job, and wait for it.

    Args:
        cluster: the cluster.
        nodes: how many nodes.
        ranks_per_node: ranks on each.
        runs_dir: folder of the runs, shared with the nodes.
        partition: the partition; by default the cheapest that fits.
        timeout_seconds: how long to wait for the job; then it is cancelled.
        started: called with the run once Slurm has taken it.

    Raises:
        UserError: the job does not fit the cluster, or Slurm refuses it.
    """
    folder = _results_folder(runs_dir)
    python = cluster.container.python if cluster.container else python_of(cluster)
    python = expand(python, os.environ) if cluster.container or cluster.software.python else python
    program = measured.preflight_script(folder, python, nodes, ranks_per_node)
    run = slurm.submit(planning.plan(program, cluster, runs_dir, partition)).run
    started(run)
    (status,) = wait_for_runs([run], timeout_seconds, every_seconds=1.0)
    if status.over:
        return _report(run, folder)
    list(cancel_runs([run]))
    return replace(_report(run, folder), gave_up_after=timeout_seconds)


def preflight_here(ranks: int, runs_dir: Path) -> PreflightReport:
    """Measure this machine with ``ranks`` ranks."""
    folder = _results_folder(runs_dir)
    run = run_script(measured.preflight_script(folder, sys.executable, 1, ranks), Options(runs_dir=runs_dir)).run
    return _report(run, folder)


def _results_folder(runs_dir: Path) -> Path:
    runs_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=".preflight-", dir=runs_dir.absolute()))


def _report(run: RunFolder, folder: Path) -> PreflightReport:
    nodes = measured.node_values(read_measurements(folder))
    return PreflightReport(run, nodes, tuple(measured.find_outliers(nodes)))
