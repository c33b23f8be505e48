"""Every mutation, by area."""

from __future__ import annotations

from tests.mutants.areas import (
    confinement,
    files,
    forecasts,
    measurements,
    network,
    ownership,
    registry,
    report_page,
    shared_places,
    shell,
    supervision,
)

MUTATIONS = (
    *ownership.MUTATIONS,
    *files.MUTATIONS,
    *shell.MUTATIONS,
    *registry.MUTATIONS,
    *network.MUTATIONS,
    *confinement.MUTATIONS,
    *supervision.MUTATIONS,
    *shared_places.MUTATIONS,
    *measurements.MUTATIONS,
    *forecasts.MUTATIONS,
    *report_page.MUTATIONS,
)
