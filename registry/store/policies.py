"""Finds the policy of a model."""

from __future__ import annotations

from saman.configs import yaml12
from saman.configs.problems import validated
from saman.configs.schemas.policy import Policy
from saman.registry.store.layout import ModelFolder

FILE = "policy.yaml"


def policy_marks(folder: ModelFolder) -> tuple[float, ...]:
    """Times of change of the files that ``read_policy`` reads, 0 for a missing file."""
    files = (folder.path / FILE, folder.models_dir / FILE)
    return tuple(file.stat().st_mtime if file.is_file() else 0.0 for file in files)


def read_policy(folder: ModelFolder) -> Policy:
    """Read the model's own policy, else the policy of the models folder, else a policy without gates.

    Raises:
        UserError: The file has mistakes; one error lists them all.
    """
    for file in (folder.path / FILE, folder.models_dir / FILE):
        if file.is_file():
            return validated(Policy, yaml12.read(file) or {}, str(file))
    return Policy()
