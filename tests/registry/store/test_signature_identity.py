"""A signature fits the model and the number that its manifest names; this is found before any library is asked."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from registry_kit import published

from saman.registry.store.layout import SIGNATURE, find_model
from saman.registry.store.policies import read_policy
from saman.registry.store.signing import signature_problem


def test_a_signed_version_in_the_place_of_another_does_not_fit(tmp_path: Path) -> None:
    published(tmp_path)
    models, private, public = tmp_path / "models", tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    public.chmod(0o644)
    (models / "policy.yaml").write_text(f"signature: required\npublic_key: {public}\n")
    (models / "digits" / "1" / SIGNATURE).write_text("{}")
    shutil.copytree(models / "digits" / "1", models / "digits" / "3")
    folder = find_model(models, "digits")
    assert "digits version 1" in signature_problem(folder, 3, read_policy(folder))
