"""Finds and loads cluster files: shipped, the user's own, or any file by path."""

from __future__ import annotations

from pathlib import Path

from saman.configs import yaml12
from saman.configs.loading.files import find, overridden
from saman.configs.loading.settings import user_folder
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster


def user_clusters() -> Path:
    """The folder from which the user's own cluster files are loaded: ``$XDG_CONFIG_HOME/saman/clusters``."""
    return user_folder() / "clusters"


def load_cluster(name_or_path: str, overrides: tuple[str, ...] = ()) -> Cluster:
    """Load a cluster: the user's own or a shipped file by name, or any file by path.

    The user's own are in ``~/.config/saman/clusters``, where ``saman clusters init`` writes them. Raises ``UserError``
    with every mistake in the file.
    """
    file = cluster_file(name_or_path)
    return validated(Cluster, overridden(yaml12.read(file), overrides), str(file))


def cluster_file(name_or_path: str) -> Path:
    """The file of a cluster; raises ``UserError`` with the nearest shipped names."""
    own = user_clusters() / f"{name_or_path}.yaml"
    return own if "/" not in name_or_path and own.is_file() else find("clusters", name_or_path)
