"""The corruption matrix: every kind of damage to every kind of file of a version is found, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import published

from saman.configs.errors import UserError
from saman.registry.lifecycle.damage import DamageKind
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.pruning import prune, retire
from saman.registry.lifecycle.serving_config import FILE
from saman.registry.lifecycle.verify import verify
from saman.registry.store.tampering import find_tampering

FILES = (
    "saved_model.pb",
    "fingerprint.pb",
    "variables/variables.index",
    "variables/variables.data-00000-of-00001",
    "assets/words.txt",
    "assets.extra/saman.json",
    "assets.extra/model.keras",
    "assets.extra/validation.npz",
    "assets.extra/tf_serving_warmup_requests",
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one model, one of another; damaged only as copies."""
    folder = tmp_path_factory.mktemp("shelf")
    for seed, name in enumerate(("digits", "digits", "other")):
        published(folder, model=name, seed=seed)
    return folder / "models"


@pytest.fixture
def copy(shelf: Path, tmp_path: Path) -> Path:
    shutil.copytree(shelf, tmp_path / "models")
    from saman.registry.lifecycle.serving_config import refresh

    refresh(tmp_path / "models")
    return tmp_path / "models"


def _missing(file: Path, _models: Path) -> None:
    file.unlink()


def _truncated(file: Path, _models: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _emptied(file: Path, _models: Path) -> None:
    file.write_bytes(b"")


def _flipped(file: Path, _models: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def _lengthened(file: Path, _models: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def _other_version(file: Path, models: Path) -> None:
    shutil.copyfile(models / "digits" / "2" / file.relative_to(models / "digits" / "1"), file)


def _other_model(file: Path, models: Path) -> None:
    shutil.copyfile(models / "other" / "1" / file.relative_to(models / "digits" / "1"), file)


def _linked(file: Path, models: Path) -> None:
    """The very content, but from outside: it could change at any time."""
    outside = models.parent / "outside"
    file.rename(outside)
    file.symlink_to(outside)


def _made_a_folder(file: Path, _models: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "harm",
    [_missing, _truncated, _emptied, _flipped, _lengthened, _other_version, _other_model, _linked, _made_a_folder],
    ids=lambda harm: harm.__name__.strip("_"),
)
def test_damage_is_found_and_named(copy: Path, harm: Callable[[Path, Path], None], name: str) -> None:
    file = copy / "digits" / "1" / name
    before = file.read_bytes()
    harm(file, copy)
    if file.is_file() and not file.is_symlink() and file.read_bytes() == before:
        pytest.skip("these two files are the same in both versions")
    found = verify(copy)
    assert found, "the damage was not found"
    assert {(damage.model, damage.version) for damage in found} == {("digits", 1)}
    assert name in {damage.path for damage in found}
    with pytest.raises(UserError):
        promote(copy, "digits:1")


@pytest.mark.parametrize("folder", ["", "variables", "assets", "assets.extra", "new"])
def test_an_added_file_is_found(copy: Path, folder: str) -> None:
    place = copy / "digits" / "1" / folder
    place.mkdir(exist_ok=True)
    (place / "stranger.bin").write_bytes(b"x")
    [found] = verify(copy)
    assert found.path.endswith("stranger.bin") and found.problem == "this file was added"


def test_a_sound_shelf_has_no_findings(copy: Path) -> None:
    assert verify(copy) == [] and verify(copy, "digits") == [] and verify(copy, "digits:2") == []


def test_two_swapped_versions_are_found(copy: Path) -> None:
    first, two, aside = copy / "digits" / "1", copy / "digits" / "2", copy / "digits" / "aside"
    first.rename(aside)
    two.rename(first)
    aside.rename(two)
    assert {(found.version, found.problem) for found in verify(copy)} == {
        (1, "this is the manifest of digits version 2"),
        (2, "this is the manifest of digits version 1"),
    }


def test_another_models_version_in_place_of_ones_own_is_found(copy: Path) -> None:
    shutil.rmtree(copy / "digits" / "1")
    shutil.copytree(copy / "other" / "1", copy / "digits" / "1")
    assert "this is the manifest of other version 1" in str(verify(copy)[0])


def test_swapped_weights_with_a_manifest_made_to_fit_are_found(copy: Path) -> None:
    version = copy / "digits" / "1"
    _other_model(version / FILES[3], copy)
    about = json.loads((version / "assets.extra/saman.json").read_text())
    theirs = json.loads((copy / "other/1/assets.extra/saman.json").read_text())
    about["files"][FILES[3]] = theirs["files"][FILES[3]]
    (version / "assets.extra/saman.json").write_text(json.dumps(about, indent=2))
    assert [found.problem for found in verify(copy)] == ["this is not the manifest that was published"]


def test_a_removed_version_and_a_foreign_one_are_found(copy: Path) -> None:
    shutil.rmtree(copy / "digits" / "2")
    (copy / "digits" / "9").mkdir()
    assert {str(found) for found in verify(copy)} == {
        "digits version 2: its folder is missing",
        "digits version 9: this folder was never published here",
    }
    kinds = [damage.kind for damage in verify(copy) if damage.version]
    assert sorted(kinds) == [DamageKind.MISSING_FOLDER, DamageKind.UNKNOWN_FOLDER]
    # ... and the other versions can still change.
    promote(copy, "digits:1")
    assert prune(copy, "digits:2") == [2]


def test_an_edited_models_config_is_found(copy: Path) -> None:
    (copy / FILE).write_text("model_config_list {}")
    assert "does not follow" in verify(copy)[0].problem


# ---- the audit log ---------------------------------------------------------------------------------------------


@pytest.fixture
def log_folder(copy: Path) -> Path:
    promote(copy, "digits:1", who="ada@x", why="first")
    promote(copy, "digits:2", who="ada@x")
    return copy / "digits" / ".saman" / "log"


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_every_edited_field_of_every_entry_is_noticed(log_folder: Path) -> None:
    for file in sorted(log_folder.iterdir()):
        text = file.read_text()
        for key, value in json.loads(text).items():
            _edit(file, **{key: value + 1 if isinstance(value, (int, float)) else "x"})
            assert find_tampering(log_folder), f"{file.name}: {key}"
        file.write_text(text)
        assert find_tampering(log_folder) == []


def test_an_entry_edited_together_with_its_digest_is_noticed(log_folder: Path) -> None:
    from saman.registry.store.audit_entry import parse_entry

    for file in sorted(log_folder.iterdir()):
        text = file.read_text()
        _edit(file, who="mallory@x")
        entry, _ = parse_entry(file.read_bytes(), 1)
        assert entry is not None
        _edit(file, digest=entry.digest())
        assert find_tampering(log_folder), file.name
        file.write_text(text)


def test_removed_and_exchanged_entries_are_noticed(log_folder: Path) -> None:
    files = sorted(log_folder.iterdir())
    for file in files:
        text = file.read_text()
        file.unlink()
        assert find_tampering(log_folder), file.name
        file.write_text("{torn")
        assert find_tampering(log_folder), file.name
        file.write_text(text)
    first, second = files[2].read_text(), files[3].read_text()
    files[2].write_text(second)
    files[3].write_text(first)
    assert find_tampering(log_folder)


def test_a_shortened_log_is_noticed_and_nothing_is_built_on_it(
    log_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saman.registry.store import audit_log

    monkeypatch.setattr(audit_log, "_PATIENCE_SECONDS", 0.2)
    sorted(log_folder.iterdir())[-1].unlink()
    models = log_folder.parents[2]
    assert any("removed" in str(found) for found in verify(models))
    with pytest.raises(UserError, match="the audit log ends at entry"):
        retire(models, "digits:1")


def test_an_entry_of_a_newer_schema_is_not_guessed_at(log_folder: Path) -> None:
    _edit(sorted(log_folder.iterdir())[-1], schema=99)
    with pytest.raises(UserError, match="newer saman"):
        promote(log_folder.parents[2], "digits:1")
