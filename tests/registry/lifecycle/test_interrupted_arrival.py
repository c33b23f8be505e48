"""An interrupted arrival of a version is shown by reads, and completed by the next change."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_kit import finished_run, published, tree

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.lifecycle.damage import DamageKind
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.reconcile import StepKind, reconcile_all
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import describe_version, list_versions
from saman.registry.store.layout import ModelFolder
from saman.registry.versions import find_version


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder whose log names version 1, but whose publisher failed before the rename."""
    from saman.registry.lifecycle import reconcile

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(reconcile, "make_visible", full)
        with pytest.raises(EnvironmentLack):
            publish(finished_run(tmp_path), tmp_path / "models")
    return tmp_path / "models"


def test_an_interrupted_arrival_is_completed_by_the_next_change(interrupted: Path) -> None:
    """The log names the version, so its staged files are not swept."""
    promote(interrupted, "digits:1", "canary")
    [row] = list_versions(interrupted)
    assert row.version == 1 and row.pending is None and not row.problem
    assert ModelFolder(interrupted, "digits").visible() == [1] and verify(interrupted) == []


def test_reads_show_an_interrupted_arrival_and_write_nothing(interrupted: Path) -> None:
    from saman.registry.lifecycle import serving_config
    from saman.registry.model_card import render_card

    before = tree(interrupted)
    [row] = list_versions(interrupted)
    assert row.pending is StepKind.VERSION_ARRIVAL and row.metrics == {
        "val_accuracy": 0.95,
        "val_loss": pytest.approx(0.05),
    }
    assert row.to_json()["pending"] == "version arrival"
    assert describe_version(interrupted, "digits").row.pending is StepKind.VERSION_ARRIVAL
    assert "arrival was interrupted" in render_card(interrupted, "digits")
    assert DamageKind.INTERRUPTED_ARRIVAL in {damage.kind for damage in verify(interrupted)}
    serving_config.expected(interrupted)
    with pytest.raises(UserError, match="saman models reconcile"):
        find_version(interrupted, "digits").require_visible()
    assert tree(interrupted) == before


def test_reconciling_lists_its_steps_and_completes_them_once(interrupted: Path) -> None:
    before = tree(interrupted)
    wanted = [StepKind.VERSION_ARRIVAL, StepKind.SERVING_CONFIG]
    assert [step.kind for step in reconcile_all(interrupted, act=False)] == wanted
    assert tree(interrupted) == before
    assert [step.kind for step in reconcile_all(interrupted)] == wanted
    assert reconcile_all(interrupted) == [] and verify(interrupted) == []


def test_a_models_folder_can_be_read_without_write_access(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "models" / "models.config").unlink()
    before = tree(tmp_path / "models")
    list_versions(tmp_path / "models")
    describe_version(tmp_path / "models", "digits")
    assert [damage.kind for damage in verify(tmp_path / "models")] == [DamageKind.SERVING_CONFIG]
    assert tree(tmp_path / "models") == before
