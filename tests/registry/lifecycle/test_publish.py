"""What publishing promises: complete versions, numbers never used twice, nothing half-done."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from registry_kit import finished_run, is_root, published, tree

from saman.cli.models.tables import details_view, listing_table
from saman.configs.errors import EnvironmentLack
from saman.registry.evaluation.gates import PublishRefusal
from saman.registry.lifecycle.publish import publish
from saman.registry.listing import describe_version, list_versions


def test_a_run_becomes_version_1_in_the_layout_that_tensorflow_serving_reads(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    before = tree(run.export / "saved_model")
    version = publish(run, tmp_path / "models", why="first")
    assert (version.model, version.number, version.new) == ("digits", 1, True)
    assert version.path == tmp_path / "models" / "digits" / "1"
    files = tree(version.path)
    assert {name: files[name] for name in before} == before
    extra = sorted(name for name in files if name not in before)
    assert extra == [
        "assets.extra/model.keras",
        "assets.extra/saman.json",
        "assets.extra/tf_serving_warmup_requests",
        "assets.extra/validation.npz",
    ]
    assert [event.kind for event in run.events()][-1] == "published"


def test_the_files_move_and_the_record_stays_with_the_run(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    publish(run, tmp_path / "models")
    assert sorted(path.name for path in run.export.iterdir()) == ["export.json"]


def test_the_manifest_traces_the_version_to_its_training(tmp_path: Path) -> None:
    version = published(tmp_path)
    about = version.manifest
    assert about.version == 1 and about.model == "digits"
    assert about.run.experiment is not None and about.run.experiment["model"]["build"] == "mlp"
    assert about.run.seed == 0 and about.run.strategy == "single" and about.run.ranks == 1
    assert about.fingerprint == {"saved_model_checksum": 150, "graph_def_program_hash": 7}
    assert about.signature.inputs["inputs"].dtype == "float32"
    assert about.metrics["val_accuracy"] == 0.95
    assert set(about.files) == set(tree(version.path)) - {"assets.extra/saman.json"}
    assert json.loads((version.path / "assets.extra/saman.json").read_text())["schema"] == 1


def test_publishing_the_same_run_again_gives_the_same_version(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    first = publish(run, tmp_path / "models")
    again = publish(run, tmp_path / "models")
    assert (again.number, again.new) == (first.number, False)
    assert len(list_versions(tmp_path / "models")) == 1


def test_a_run_exported_anew_becomes_a_new_version(tmp_path: Path) -> None:
    from registry_kit import fake_export

    run = finished_run(tmp_path)
    publish(run, tmp_path / "models")
    shutil.rmtree(run.export)
    fake_export(run, seed=5)
    assert publish(run, tmp_path / "models").number == 2


def test_numbers_go_up_and_are_kept_per_model(tmp_path: Path) -> None:
    assert [published(tmp_path, seed=seed).number for seed in range(3)] == [1, 2, 3]
    assert published(tmp_path, model="other").number == 1


def test_a_number_that_somebody_took_by_hand_is_not_used(tmp_path: Path) -> None:
    published(tmp_path)
    (tmp_path / "models" / "digits" / "7").mkdir()
    assert published(tmp_path, seed=1).number == 8


def test_publish_if_decides(tmp_path: Path) -> None:
    run = finished_run(tmp_path, accuracy=0.5, condition={"metric": "val_accuracy", "at_least": 0.9})
    with pytest.raises(PublishRefusal, match=r"val_accuracy is 0\.5, but must be at least 0\.9"):
        publish(run, tmp_path / "models")
    assert not (tmp_path / "models").exists()
    assert run.events()[-1].kind == "not_published"
    assert (run.export / "saved_model" / "saved_model.pb").is_file()
    good = finished_run(tmp_path, accuracy=0.95, condition={"metric": "val_loss", "at_most": 0.1})
    assert publish(good, tmp_path / "models").number == 1


@pytest.mark.skipif(not is_root(), reason="mounting a tiny disk needs root")
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        publish(finished_run(tmp_path), disk)
        run = finished_run(tmp_path, seed=1, weight_bytes=2_000_000)
        before = tree(disk / "digits" / "1")
        with pytest.raises(EnvironmentLack, match="No space left"):
            publish(run, disk)
        assert [row.version for row in list_versions(disk)] == [1]
        assert tree(disk / "digits" / "1") == before
        assert list((disk / "digits" / ".saman" / "staging").iterdir()) == []
        assert (run.export / "saved_model" / "saved_model.pb").is_file()
        assert publish(finished_run(tmp_path, seed=2), disk).number == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_list_and_show_print(tmp_path: Path) -> None:
    from rich.console import Console

    published(tmp_path)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(listing_table(list_versions(tmp_path / "models")))
    console.print(details_view(describe_version(tmp_path / "models", "digits")))
    text = console.export_text()
    assert "val_accuracy 0.95" in text and "float32" in text and "saved_model.pb" in text
