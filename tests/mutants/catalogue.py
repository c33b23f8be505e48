"""Every mutation, by area."""

from __future__ import annotations

from tests.mutants.areas import files, network, ownership, registry, shell, supervision

MUTATIONS = (
    *ownership.MUTATIONS,
    *files.MUTATIONS,
    *shell.MUTATIONS,
    *registry.MUTATIONS,
    *network.MUTATIONS,
    *supervision.MUTATIONS,
)
