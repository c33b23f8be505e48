"""Promotion, rollback, retirement and pruning: who did what is known, and a labelled version is never lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from registry_kit import published

from saman.configs.errors import UserError
from saman.registry.lifecycle.approval import approve
from saman.registry.lifecycle.promotion import promote, unlabel
from saman.registry.lifecycle.pruning import prune, retire
from saman.registry.lifecycle.rollback import rollback
from saman.registry.lifecycle.serving_config import FILE, expected
from saman.registry.listing import list_versions, read_history
from saman.registry.store.layout import ModelFolder
from saman.registry.versions import find_version


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    for seed in range(4):
        published(tmp_path, seed=seed)
    return tmp_path / "models"


def _labels(models_dir: Path) -> dict[str, int]:
    return find_version(models_dir, "digits:1").state.labels


def test_promoting_moves_stable_and_remembers_what_was(shelf: Path) -> None:
    promote(shelf, "digits:1")
    assert _labels(shelf) == {"stable": 1}
    promote(shelf, "digits:2")
    promote(shelf, "digits:4", "canary")
    assert _labels(shelf) == {"stable": 2, "previous": 1, "canary": 4}
    assert promote(shelf, "digits:2").entry is None  # it is so already
    promote(shelf, "digits:canary")
    assert _labels(shelf) == {"stable": 4, "previous": 2, "canary": 4}


def test_rollback_is_one_command_and_can_go_on(shelf: Path) -> None:
    for number in (1, 2, 3):
        promote(shelf, f"digits:{number}")
    rollback(shelf, "digits", why="wrong answers")
    assert _labels(shelf) == {"stable": 2, "previous": 1}
    rollback(shelf, "digits")
    assert _labels(shelf) == {"stable": 1}
    with pytest.raises(UserError, match="no version of digits was stable before"):
        rollback(shelf, "digits")


def test_a_rollback_passes_over_versions_that_are_gone(shelf: Path) -> None:
    for number in (1, 2, 3, 4):
        promote(shelf, f"digits:{number}")
    prune(shelf, "digits:2")
    rollback(shelf, "digits")
    assert _labels(shelf) == {"stable": 3, "previous": 1}


def test_nothing_was_stable_so_nothing_rolls_back(shelf: Path) -> None:
    with pytest.raises(UserError, match="no version of digits is stable"):
        rollback(shelf, "digits")


@pytest.mark.parametrize("act", [retire, prune])
def test_a_label_in_use_protects_its_version(shelf: Path, act: object) -> None:
    promote(shelf, "digits:1")
    promote(shelf, "digits:2")
    for number, label in ((2, "stable"), (1, "previous")):
        with pytest.raises(UserError, match=f"version {number} of digits is in use: {label}"):
            act(shelf, f"digits:{number}")  # type: ignore[operator]
    assert ModelFolder(shelf, "digits").visible() == [1, 2, 3, 4]


def test_prune_keeps_the_newest_and_every_labelled_version(shelf: Path) -> None:
    promote(shelf, "digits:1")
    promote(shelf, "digits:2", "canary")
    assert prune(shelf, "digits", keep=1, act=False) == [3]
    assert ModelFolder(shelf, "digits").visible() == [1, 2, 3, 4]
    assert prune(shelf, "digits", keep=1) == [3]
    assert ModelFolder(shelf, "digits").visible() == [1, 2, 4]
    assert prune(shelf, "digits", keep=0) == [4]


def test_the_keep_policy_of_the_folder_holds(shelf: Path) -> None:
    (shelf / "policy.yaml").write_text("keep: {newest: 1, days: 1}\n")
    assert prune(shelf, "digits") == []  # all are younger than a day
    (shelf / "policy.yaml").write_text("keep: {newest: 3}\n")
    assert prune(shelf, "digits") == [1]
    (shelf / "policy.yaml").write_text("keep: {newst: 3}\n")
    with pytest.raises(UserError, match="newest"):
        prune(shelf, "digits")


def test_numbers_of_pruned_versions_are_never_used_again(shelf: Path) -> None:
    assert prune(shelf, "digits", keep=0) == [1, 2, 3, 4]
    assert published(shelf.parent, seed=9).number == 5
    assert [row.version for row in list_versions(shelf)] == [5]
    with pytest.raises(UserError, match="version 2 of digits was pruned"):
        promote(shelf, "digits:2")


def test_a_retired_version_stays_but_is_not_offered(shelf: Path) -> None:
    retire(shelf, "digits:4", why="licence")
    assert (shelf / "digits" / "4" / "saved_model.pb").is_file()
    with pytest.raises(UserError, match="version 4 of digits is retired"):
        promote(shelf, "digits:4")
    assert promote(shelf, "digits").state.assigned == {"stable": 3}
    assert "versions: 4" not in (shelf / FILE).read_text()


def test_labels_are_words_and_previous_follows(shelf: Path) -> None:
    for label in ("Stable", "1", "a b", "", "../x"):
        with pytest.raises(UserError, match="neither a version nor a label"):
            promote(shelf, "digits:1", label)
    with pytest.raises(UserError, match="follows"):
        promote(shelf, "digits:1", "previous")
    promote(shelf, "digits:1", "canary")
    unlabel(shelf, "digits", "canary")
    with pytest.raises(UserError, match="no version of digits is labelled 'canary'"):
        unlabel(shelf, "digits", "canary")


def test_the_log_tells_who_when_why_from_which_to_which(shelf: Path) -> None:
    promote(shelf, "digits:1", why="first", who="ada@x")
    promote(shelf, "digits:3", why="better", who="bob@y")
    last = read_history(shelf, "digits")[-1]
    assert (last.who, last.why, last.action) == ("bob@y", "better", "promote")
    assert (last.moved_from, last.moved_to, last.label) == (1, 3, "stable")
    assert last.time > 1_700_000_000


def test_approvals_are_recorded_once_and_by_those_who_may(shelf: Path) -> None:
    (shelf / "policy.yaml").write_text("approvals: {by: [ada]}\n")
    with pytest.raises(UserError, match="may not approve"):
        approve(shelf, "digits:1", "mallory")
    with pytest.raises(UserError, match="needs a name"):
        approve(shelf, "digits:1", " ")
    approve(shelf, "digits:1", "ada")
    assert approve(shelf, "digits:1", "ada").entry is None
    assert list_versions(shelf)[0].approved_by == ("ada",)


def test_models_config_loads_labelled_versions_under_their_labels(shelf: Path) -> None:
    assert "versions: 4 }" in (shelf / FILE).read_text()  # no label yet: the newest
    (shelf / "policy.yaml").write_text("tensorflow_serving: {load_seconds: 0}\n")  # test_label_moves.py has the steps
    promote(shelf, "digits:1")
    promote(shelf, "digits:3")
    promote(shelf, "digits:4", "canary")
    text = (shelf / FILE).read_text()
    assert "specific { versions: 1 versions: 3 versions: 4 }" in text
    for label, number in (("stable", 3), ("previous", 1), ("canary", 4)):
        assert f'version_labels {{ key: "{label}" value: {number} }}' in text
    assert f'base_path: "{shelf}/digits"' in text
    assert 'base_path: "/srv/digits"' in expected(shelf, Path("/srv"))
