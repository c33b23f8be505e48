"""A version without a signature is refused where the policy requires it, and a signature that does not fit always."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "security" / "attacks"))
from forge_entry import forge
from registry_kit import published

from saman.configs.errors import UserError
from saman.registry.lifecycle.approval import sign
from saman.registry.lifecycle.damage import DamageKind
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import read_history
from saman.registry.store.layout import find_model
from saman.registry.store.policies import read_policy
from saman.registry.store.signing import signature_problem

pytestmark = pytest.mark.usefixtures("foreign")


def _key(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key as openssl makes them."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture
def models(tmp_path: Path) -> Path:
    published(tmp_path)
    _, public = _key(tmp_path, "ours")
    (tmp_path / "models" / "policy.yaml").write_text(f"signature: required\npublic_key: {public}\n")
    return tmp_path / "models"


def test_an_unsigned_version_is_refused_where_the_policy_asks_for_a_signature(models: Path) -> None:
    assert "asks for a signature" in verify(models)[0].problem
    with pytest.raises(UserError, match="asks for a signature"):
        promote(models, "digits:1")


def test_a_signed_version_is_taken_and_the_log_tells_who_signed(models: Path) -> None:
    sign(models, "digits:1", models.parent / "ours.pem", who="ada@x")
    assert verify(models) == []
    promote(models, "digits:1")
    signed = read_history(models, "digits")[-2]
    assert (signed.action, signed.who) == ("sign", "ada@x")


def test_a_signature_of_another_key_does_not_fit(models: Path) -> None:
    private, _ = _key(models.parent, "theirs")
    sign(models, "digits:1", private)
    assert "does not fit" in verify(models)[0].problem
    with pytest.raises(UserError, match="does not fit"):
        promote(models, "digits:1")


def test_a_signature_does_not_fit_a_manifest_that_was_changed(models: Path) -> None:
    sign(models, "digits:1", models.parent / "ours.pem")
    file = models / "digits" / "1" / "assets.extra" / "saman.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "why": "better"}))
    assert any("does not fit" in damage.problem for damage in verify(models))


def test_a_damaged_version_is_not_signed_and_a_bad_key_is_named(models: Path) -> None:
    with pytest.raises(UserError, match="no such key file"):
        sign(models, "digits:1", models / "none.pem")
    (models.parent / "bad.pem").write_text("nothing")
    with pytest.raises(UserError, match="cannot sign"):
        sign(models, "digits:1", models.parent / "bad.pem")
    (models / "digits" / "1" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        sign(models, "digits:1", models.parent / "ours.pem")


# ---- replays: whoever may write the models folder copies a signed version elsewhere -------------------------------


def _replayed(models: Path, source: str, model: str, version: int) -> Path:
    """A signed version copied to another place, entered into the log there, and labelled stable."""
    target = models / model / str(version)
    shutil.copytree(models / source, target)
    manifest = hashlib.sha256((target / "assets.extra" / "saman.json").read_bytes()).hexdigest()
    facts = {"version": version, "manifest": manifest, "staging": "x", "run": "r"}
    forge(models / model, {"action": "publish", **facts})
    forge(models / model, {"action": "promote", "label": "stable", "from": 1, "to": version})
    return target


@pytest.fixture
def signed(models: Path) -> Path:
    """The first versions of two models, both signed."""
    published(models.parent, model="other", seed=1)
    for name in ("digits", "other"):
        sign(models, f"{name}:1", models.parent / "ours.pem")
    assert verify(models) == []
    return models


def test_a_signed_version_does_not_verify_under_another_number(signed: Path) -> None:
    _replayed(signed, "digits/1", "digits", 3)
    found = [damage for damage in verify(signed) if damage.version == 3]
    assert {damage.kind for damage in found} == {DamageKind.MANIFEST, DamageKind.SIGNATURE}
    assert "manifest of digits version 1" in found[0].problem
    with pytest.raises(UserError):
        promote(signed, "digits:3", "canary")


def test_a_signed_version_does_not_verify_as_another_model(signed: Path) -> None:
    _replayed(signed, "other/1", "digits", 3)
    found = [damage for damage in verify(signed) if damage.version == 3]
    assert {damage.kind for damage in found} == {DamageKind.MANIFEST, DamageKind.SIGNATURE}
    assert "manifest of other version 1" in found[0].problem


def test_the_signature_itself_is_bound_to_model_and_version(signed: Path) -> None:
    """Also for a caller that checks nothing but the signature."""
    _replayed(signed, "digits/1", "digits", 3)
    folder = find_model(signed, "digits")
    assert signature_problem(folder, 1, read_policy(folder)) == ""
    assert "digits version 1" in signature_problem(folder, 3, read_policy(folder))
