"""Whoever may write a shared models folder forges entries, links and keys: nothing outside moves, and all is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
sys.path.insert(0, str(Path(__file__).with_name("attacks")))
from forge_entry import forge
from registry_kit import published, tree

from saman.cli.main import main
from saman.configs.errors import UserError
from saman.jobs.inference import prepare
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.approval import approve
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.reconcile import reconcile_all
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import list_versions, read_history, read_listing

OUT = "../../../../home/thesis"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    published(folder)
    published(folder, model="other", seed=1)
    return folder / "models"


@pytest.fixture
def models(shelf: Path, tmp_path: Path) -> Path:
    """Two models; the reader's own folder is two levels above them."""
    shutil.copytree(shelf, tmp_path / "group" / "shared" / "models")
    serving_config.refresh(tmp_path / "group" / "shared" / "models")
    thesis = tmp_path / "home" / "thesis"
    thesis.mkdir(parents=True)
    (thesis / "chapter.tex").write_text("a year of work")
    return tmp_path / "group" / "shared" / "models"


def _thesis(models: Path) -> Path:
    return models.parents[2] / "home" / "thesis" / "chapter.tex"


COMMANDS = (["list"], ["verify"], ["log", "digits"], ["show", "digits:1"], ["config"], ["card", "digits:1"])


def _call(models: Path, *words: str) -> int:
    """The exit status of a command as a user calls it; an exception other than saman's own passes through."""
    try:
        main(["models", *words, "--models-dir", str(models)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


HOSTILE: dict[str, dict[str, Any]] = {
    "a format that leads out": {"action": "export", "version": 1, "format": OUT, "manifest": "", "staging": "x"},
    "a staging folder that leads out": {
        "action": "export", "version": 1, "format": "onnx", "manifest": "", "staging": f"../../{OUT}"
    },
    "a version from outside": {
        "action": "publish", "version": 9, "manifest": "0" * 64, "staging": f"../../{OUT}", "run": "r"
    },
    "an absolute path": {"action": "publish", "version": 9, "manifest": "0" * 64, "staging": "/etc", "run": "r"},
    "the parent folder": {"action": "publish", "version": 9, "manifest": "0" * 64, "staging": "..", "run": "r"},
    "a version as text": {"action": "prune", "version": "../../../.."},
    "no version": {"action": "retire"},
    "a version that never was": {"action": "promote", "label": "stable", "from": None, "to": 77},
    "a version published twice": {"action": "publish", "version": 1, "manifest": "0" * 64, "staging": "x", "run": "r"},
    "a label with a line break": {"action": "promote", "label": "a\n}", "from": None, "to": 1},
    "a rollback from nowhere": {"action": "rollback", "label": "stable", "from": 5, "to": 1},
    "a time as text": {"action": "retire", "version": 1, "time": "abc"},
    "a time beyond any calendar": {"action": "retire", "version": 1, "time": 1e300},
    "a list for a name": {"action": "approve", "version": 1, "by": ["ada"]},
    "an endless accuracy": {"action": "export", "version": 1, "format": "onnx", "manifest": "", "staging": "x",
                            "accuracy": float("inf")},
}  # fmt: skip


@pytest.mark.parametrize("facts", HOSTILE.values(), ids=HOSTILE)
def test_a_forged_entry_moves_nothing_and_is_damage(models: Path, facts: dict[str, Any]) -> None:
    forge(models / "digits", facts)
    before = tree(models)
    for words in COMMANDS:
        _call(models, *words)
    assert tree(models) == before, "a command that reads has written"
    damage = verify(models)
    assert {found.model for found in damage} == {"digits"} and damage
    with pytest.raises(UserError):
        promote(models, "digits:1")
    with pytest.raises(UserError):
        reconcile_all(models)
    assert _thesis(models).read_text() == "a year of work"


def test_a_forged_entry_does_not_disable_the_other_models(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote(models, "digits:1")
    served = (models / serving_config.FILE).read_text()
    forge(models / "digits", HOSTILE["a version that never was"])
    assert [row.model for row in list_versions(models)] == ["other"]
    assert [damaged.model for damaged in read_listing(models).damaged] == ["digits"]
    promote(models, "other:1", "canary")
    now = (models / serving_config.FILE).read_text()
    assert "canary" in now and served.split("  config {")[1].strip(" }\n") in now, "the damaged model is served no more"
    assert _call(models, "list") == 1
    said = capsys.readouterr()
    assert "other" in said.out and "digits cannot be listed" in said.err


@pytest.mark.parametrize(
    "text",
    ["{torn", "[]", "null", "[" * 100_000, '{"schema":1}', '{"schema":1,"number":"x"}', '{"schema":' + '{"a":' * 500,
     '{"schema":true}', "\xff", '{"schema":1,"time":NaN}'],
)  # fmt: skip
def test_verify_names_any_malformed_entry_and_reads_on(models: Path, text: str) -> None:
    (models / "digits" / ".saman" / "log" / "00000002.json").write_bytes(text.encode("latin-1"))
    assert {found.model for found in verify(models)} == {"digits"}
    assert [row.model for row in list_versions(models)] == ["other"]


@pytest.mark.parametrize("head", ["[]", "null", '{"number":"x"}', '{"number":1}', "{", '{"number":[[]],"digest":3}'])
def test_verify_names_a_malformed_head(models: Path, head: str) -> None:
    (models / "digits" / ".saman" / "head.json").write_text(head)
    assert [found.model for found in verify(models)] == ["digits"]


def test_a_huge_number_of_an_entry_does_not_keep_verify_busy(models: Path) -> None:
    (models / "digits" / ".saman" / "log" / "900000000000.json").write_text("{}")
    assert "entries 2 to 899999999999 are missing" in str(verify(models)[0])


@pytest.mark.parametrize("place", ["formats", "formats/1", ".saman/staging/x"])
def test_a_symbolic_link_in_a_model_leads_nowhere(models: Path, place: str) -> None:
    staged = models / "digits" / ".saman" / "staging" / "x"
    link = models / "digits" / place
    staged.mkdir(parents=True)
    (models.parents[2] / "home" / "1").mkdir()
    (models.parents[2] / "home" / "1" / "thesis").mkdir()
    if place.endswith("x"):
        staged.rmdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(models.parents[2] / "home" / ("1" if place.endswith("1") else ""))
    forge(models / "digits", {"action": "export", "version": 1, "format": "thesis", "manifest": "", "staging": "x"})
    with pytest.raises(UserError, match="symbolic link"):
        reconcile_all(models)
    assert _thesis(models).exists() and (models.parents[2] / "home" / "1" / "thesis").is_dir()
    assert not list((models.parents[2] / "home" / "thesis").glob("saman*"))


# ---- signatures --------------------------------------------------------------------------------------------------


def _key(folder: Path, name: str) -> Path:
    folder.mkdir()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return public


@pytest.mark.parametrize("written", ["keys/release.pub", "{models}/keys/release.pub", "../models/keys/release.pub"])
def test_a_key_inside_the_models_folder_is_refused(models: Path, written: str) -> None:
    _key(models / "keys", "release")
    (models / "policy.yaml").write_text(f"signature: required\npublic_key: {written.format(models=models)}\n")
    (models / "digits" / "1" / "assets.extra" / "saman.sig").write_text("{}")
    assert any("lies in the models folder" in damage.problem for damage in verify(models))


def test_a_link_to_a_key_inside_the_models_folder_is_refused(models: Path) -> None:
    public = _key(models / "keys", "release")
    (models.parent / "link.pub").symlink_to(public)
    # An absolute path: "../link.pub" would be inside the folder by its text alone.
    (models / "policy.yaml").write_text(f"signature: required\npublic_key: {models.parent / 'link.pub'}\n")
    (models / "digits" / "1" / "assets.extra" / "saman.sig").write_text("{}")
    assert any("lies in the models folder" in damage.problem for damage in verify(models))


def test_a_key_that_others_may_write_is_refused(models: Path) -> None:
    public = _key(models.parent / "keys", "release")
    public.chmod(0o664)
    (models / "policy.yaml").write_text(f"signature: required\npublic_key: {public}\n")
    (models / "digits" / "1" / "assets.extra" / "saman.sig").write_text("{}")
    assert any("others may write" in damage.problem for damage in verify(models))


# ---- approvals, batch inference ----------------------------------------------------------------------------------


def test_an_approval_outside_the_allow_list_does_not_count_even_from_the_log(models: Path) -> None:
    (models / "policy.yaml").write_text("approvals: {at_least: 1, by: [ada]}\n")
    with pytest.raises(UserError, match="may not approve"):
        approve(models, "digits:1", "mallory")
    forge(models / "digits", {"action": "approve", "version": 1, "by": "mallory", "manifest": ""})
    with pytest.raises(UserError, match="0 of 1 approvals"):
        promote(models, "digits:1")
    approve(models, "digits:1", "ada")
    assert promote(models, "digits:1").state.labels["stable"] == 1


def _rows(folder: Path) -> Path:
    import numpy as np

    np.save(folder / "rows.npy", np.zeros((2, 8, 8), "float32"))
    return folder / "rows.npy"


def test_batch_inference_refuses_a_damaged_version(models: Path, tmp_path: Path) -> None:
    (models / "digits" / "1" / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(UserError, match=r"saved_model\.pb"):
        prepare(models, "digits:1", [_rows(tmp_path)], tmp_path / "out.parquet")


def test_batch_inference_refuses_an_unsigned_version_where_the_policy_requires_a_signature(
    models: Path, tmp_path: Path
) -> None:
    (models / "policy.yaml").write_text("signature: required\npublic_key: /nowhere.pub\n")
    with pytest.raises(UserError, match="signature"):
        prepare(models, "digits:1", [_rows(tmp_path)], tmp_path / "out.parquet")


# ---- one damaged file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["approvals: {by: 3}", "a: &a [*a]", "[" * 10_000, "public_key: {}", "\0"])
def test_a_damaged_policy_is_damage_of_its_model_only(models: Path, text: str) -> None:
    (models / "digits" / "policy.yaml").write_text(text)
    assert {found.model for found in verify(models)} == {"digits"}


@pytest.mark.parametrize("value", ["[" * 50_000, "null", '{"schema":1,"files":{"../x":{"sha256":"","bytes":1}}}'])
def test_a_damaged_manifest_is_damage_of_its_version_only(models: Path, value: str) -> None:
    (models / "digits" / "1" / "assets.extra" / "saman.json").write_text(value)
    assert {found.model for found in verify(models)} == {"digits"}
    rows = {row.model: row for row in list_versions(models)}
    assert rows["digits"].problem and not rows["other"].problem
    assert json.dumps([row.to_json() for row in rows.values()])
    assert read_history(models, "digits")


def test_a_model_can_still_be_published_beside_a_damaged_one(models: Path, tmp_path: Path) -> None:
    from registry_kit import finished_run

    forge(models / "digits", HOSTILE["no version"])
    assert publish(finished_run(tmp_path, model="third", seed=2), models).number == 1
    assert "third" in (models / serving_config.FILE).read_text()
