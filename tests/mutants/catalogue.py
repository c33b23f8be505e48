"""Every mutation, by area."""

from __future__ import annotations

from tests.mutants.areas import confinement, files, network, ownership, registry, shared_places, shell, supervision

MUTATIONS = (
    *ownership.MUTATIONS,
    *files.MUTATIONS,
    *shell.MUTATIONS,
    *registry.MUTATIONS,
    *network.MUTATIONS,
    *confinement.MUTATIONS,
    *supervision.MUTATIONS,
    *shared_places.MUTATIONS,
)
