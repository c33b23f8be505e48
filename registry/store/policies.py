"""Finds the policy that holds for a model."""

from __future__ import annotations

from saman.configs import yaml12
from saman.configs.problems import validated
from saman.configs.schemas.policy import Policy
from saman.registry.store.layout import ModelFolder

FILE = "policy.yaml"


def policy_of(folder: ModelFolder) -> Policy:
    """The model's own policy, else that of the models folder, else one without gates.

    Raises one ``UserError`` that lists every mistake in the file.
    """
    for file in (folder.path / FILE, folder.models_dir / FILE):
        if file.is_file():
            return validated(Policy, yaml12.read(file) or {}, str(file))
    return Policy()
