"""Power may fail at any moment: what was published, promoted or exported stays, and the rest can be completed."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "runs"))
from power_loss import Recorder, power_losses
from registry_kit import finished_run, tree

from saman.configs.errors import UserError
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.reconcile import reconcile_all
from saman.registry.lifecycle.verify import verify
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import list_models

KINDS = (("synced", 0), ("names", 0), ("mixed", 0))


def _entries(models: Path) -> list[Entry]:
    return [entry for folder in list_models(models) for entry in audit_log.read(folder.log)]


@pytest.mark.slow
def test_after_any_power_loss_the_registry_completes_what_it_had_acknowledged(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    run, models = finished_run(live), live / "models"
    # Each piece of work enters a line into the log.
    moments = Recorder(live).record(
        lambda: publish(run, models), lambda: promote(models, "digits:1", "canary"), lambda: promote(models, "digits:1")
    )
    for moment, what, left in power_losses(moments, tmp_path, KINDS):
        try:
            entries = _entries(left / "models")
            assert len(entries) >= moment.done, f"{what}: {len(entries)} entries after {moment.done} changes"
            reconcile_all(left / "models")
        except UserError as error:
            raise AssertionError(f"{what}: {error}") from error
        damage = verify(left / "models")
        assert not damage, f"{what}: {damage}"


@pytest.mark.slow
def test_after_any_power_loss_a_model_is_in_its_run_or_in_the_registry(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    run = finished_run(live)
    exported = tree(run.exported.saved_model)
    moments = Recorder(live).record(partial(publish, run, live / "models"))
    for _, what, left in power_losses(moments, tmp_path, KINDS):
        there = left / run.path.relative_to(live) / "export" / "saved_model"
        kept = tree(there) == exported if there.is_dir() else False
        assert kept or _entries(left / "models"), f"{what}: the model is nowhere"
