"""The model card: every part that a reader looks for, also where nothing is known."""

from __future__ import annotations

from pathlib import Path

from registry_kit import published

from saman.registry.lifecycle.approval import approve
from saman.registry.lifecycle.promotion import promote
from saman.registry.model_card import render_card


def test_the_card_tells_what_it_is_where_it_runs_and_how_to_roll_back(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for seed in (0, 1):
        published(tmp_path, seed=seed)
        promote(models, f"digits:{seed + 1}", who="ada@x")
    approve(models, "digits:2", "ada", why="looked at 50 errors")
    page = render_card(models, "digits:stable")
    for heading in ("Use", "Training", "Data", "Metrics", "Limits", "Approvals", "Deployment"):
        assert f"## {heading}" in page
    for text in (
        "val_accuracy | 0.95",
        "looked at 50 errors",
        "stable | 1 | 2 | ada@x",
        "makes version 1 stable again",
    ):
        assert text in page
    assert "this version is not stable" in render_card(models, "digits:1")


def test_a_card_of_a_version_of_which_little_is_known_says_so(tmp_path: Path) -> None:
    published(tmp_path, metrics={}, data={}, versions={}, statistics=None)
    page = render_card(tmp_path / "models", "digits")
    assert "None were recorded" in page and "Unknown." in page and "It has no label" in page
