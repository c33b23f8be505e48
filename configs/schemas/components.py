"""The schema of ``resources.components``: processes beside the ranks, in a part of the job of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from saman.configs.problems import Strict
from saman.configs.site.texts import matching
from saman.configs.units import Size

ComponentName = Annotated[str, matching(r"[a-z][a-z0-9_]{0,30}", "the name of a component", "data_service")]


class JobComponent(Strict):
    """Processes beside the ranks, such as parameter servers or a data service, on CPU nodes of their own.

    Each process runs ``program`` in the folder of the run's program. They live until the ranks have ended; if a process
    ends earlier, the run fails.
    """

    name: ComponentName
    program: list[str] = Field(min_length=1)  # a program and its arguments; no shell reads them
    nodes: PositiveInt = 1
    tasks_per_node: PositiveInt = 1
    cpus_per_task: PositiveInt = 1
    memory_per_task: Size = "1G"

    @property
    def tasks(self) -> int:
        """Processes of this component of a heterogeneous job."""
        return self.nodes * self.tasks_per_node
