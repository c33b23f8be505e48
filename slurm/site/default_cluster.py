"""The cluster of a command: the named cluster, else the default of the environment, else that of the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.loading.settings import settings_file
from saman.configs.schemas.cluster import Cluster
from saman.runs import variables
from saman.runs.trust.run_trust import trusted_settings

DEFAULT = "default"  # as a name: the default cluster, for commands that stay on this machine without --cluster


@dataclass(frozen=True)
class ChosenCluster:
    """A cluster by name or path, and the origin of the choice; ``None`` for the command line."""

    name: str
    origin: str | None = None

    @property
    def note(self) -> str | None:
        """The default and its origin, for people; ``None`` for a cluster that the user named."""
        return self.origin and f"cluster {self.name}, the default of {self.origin}"

    def load(self, overrides: tuple[str, ...] = ()) -> Cluster:
        """Load the cluster file. Raises ``UserError`` with every mistake; of a default the error names the origin."""
        try:
            return load_cluster(self.name, overrides)
        except UserError as error:
            where = f"{error.where} (the default of {self.origin})" if error.where else self.origin
            if self.origin is None:
                raise
            raise type(error)(error.problem, where=where, remedy=error.remedy, others=error.others) from None


def choose_cluster(named: str | None, environ: Mapping[str, str] | None = None) -> ChosenCluster:
    """The cluster of a command.

    Args:
        named: ``--cluster``; ``None`` or ``default`` for the default.
        environ: The variables; ``None`` for this process's own.

    Raises:
        UserError: There is no default, or the user's settings have a mistake.
    """
    if named is not None and named != DEFAULT:
        return ChosenCluster(named)
    environ = os.environ if environ is None else environ
    if name := environ.get(variables.CLUSTER):
        return ChosenCluster(name, variables.CLUSTER)
    if name := trusted_settings().cluster:
        return ChosenCluster(name, str(settings_file()))
    remedy = f"--cluster NAME; or a default: {variables.CLUSTER}=NAME, or `cluster: NAME` in {settings_file()}"
    raise UserError("missing cluster", where="command line", remedy=remedy)
