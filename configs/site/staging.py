"""The keys of a cluster file that copy the ranks' Python environment and their data to the nodes of a job."""

from __future__ import annotations

from typing import Literal

from saman.configs.problems import Strict
from saman.configs.site.texts import AbsolutePath

STAGE = "stage"  # the key beside the variables of ``environment``


class DataStaging(Strict):
    """Whether a job copies files and folders of ``data.args`` to its nodes."""

    stage: Literal["none", "node"] = "none"


class Staging(Strict):
    """The copies on a node: their folder, how long they stay, and what happens if a copy fails."""

    folder: AbsolutePath | None = None  # null: node_local of the cluster file, else $TMPDIR of the job, else /tmp
    after_job: Literal["remove", "keep"] = "remove"  # keep: later jobs on the node find the copies there
    on_failure: Literal["shared", "end"] = "shared"  # shared: the ranks read the originals
