"""What publishing refuses: bad names and specifications, links, incomplete exports, folders of other users."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from registry_kit import finished_run, is_root, published

from saman.configs.errors import UserError
from saman.registry.lifecycle.publish import publish
from saman.registry.listing import describe_version, list_versions
from saman.registry.store.layout import ModelFolder, parse_spec


@pytest.mark.parametrize("name", ["a/b", "..", ".", "../x", "", ".saman", "a\0b", "/etc", "a" * 65, "-x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    run = finished_run(tmp_path)
    with pytest.raises(UserError, match="cannot name a model"):
        publish(run, tmp_path / "models", model=name)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("text", ["a/b", "..:1", "digits:../1", "digits:Stable", "digits:0", "digits:", "digits:1:2"])
def test_a_specification_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_spec(text)


def test_symbolic_links_are_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "digits").symlink_to(elsewhere)
    with pytest.raises(UserError, match="symbolic link"):
        published(tmp_path)
    run = finished_run(tmp_path, model="other")
    (run.export / "saved_model" / "assets" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        publish(run, tmp_path / "models")
    assert not ModelFolder(tmp_path / "models", "other").visible()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "missing", ["saved_model/saved_model.pb", "saved_model/variables/variables.index", "export.json"]
)
def test_an_incomplete_export_is_refused(tmp_path: Path, missing: str) -> None:
    run = finished_run(tmp_path)
    (run.export / missing).unlink()
    with pytest.raises(UserError, match="incomplete"):
        publish(run, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_model_without_a_serving_signature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no serving signature"):
        published(tmp_path, signature={})
    with pytest.raises(UserError, match="never compared"):
        published(tmp_path, checked=False)
    assert not (tmp_path / "models").exists()


def test_a_run_that_exported_nothing_is_told_so(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    shutil.rmtree(run.export)
    with pytest.raises(UserError, match="has no export"):
        publish(run, tmp_path / "models")


def test_a_version_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    published(tmp_path)
    with pytest.raises(UserError, match="version 9 of digits does not exist.*there are: 1"):
        describe_version(tmp_path / "models", "digits:9")
    with pytest.raises(UserError, match="no version of digits is labelled 'stable'"):
        describe_version(tmp_path / "models", "digits:stable")
    with pytest.raises(UserError, match="did you mean 'digits'"):
        describe_version(tmp_path / "models", "digit")


def test_a_manifest_of_a_newer_schema_is_not_guessed_at(tmp_path: Path) -> None:
    version = published(tmp_path)
    file = version.path / "assets.extra/saman.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))
    with pytest.raises(UserError, match="newer saman"):
        describe_version(tmp_path / "models", "digits:1")
    assert "newer saman" in list_versions(tmp_path / "models")[0].problem


def test_a_manifest_may_not_name_files_outside_its_version(tmp_path: Path) -> None:
    version = published(tmp_path)
    file = version.path / "assets.extra/saman.json"
    about = json.loads(file.read_text())
    about["files"]["../../secret"] = {"sha256": "0", "bytes": 1}
    file.write_text(json.dumps(about))
    with pytest.raises(UserError, match="leads out"):
        _ = version.manifest


@pytest.mark.skipif(not is_root(), reason="only root can act as somebody else")
def test_a_folder_of_somebody_else_is_named_with_its_owner(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (tmp_path / "models").mkdir(mode=0o755)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    program = (
        "import os, sys; from pathlib import Path\n"
        "from saman.registry.lifecycle.publish import publish; os.setuid(65534)\n"
        "from saman.configs.errors import UserError\n"
        "try: publish(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except UserError as error: print(error.exit_code, error)"
    )
    command = [sys.executable, "-c", program, str(run.path), str(tmp_path / "models")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "3 " in done.stdout and "belongs to root" in done.stdout and "Permission denied" in done.stdout, done
    assert list((tmp_path / "models").iterdir()) == []
