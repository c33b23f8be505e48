"""What publishing promises: complete versions, numbers never used twice, nothing half-done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from registry_kit import finished_run, is_root, published, tree

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.evaluation.gates import PublishRefusal
from saman.registry.lifecycle.damage import DamageKind
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.reconcile import StepKind, reconcile_all
from saman.registry.lifecycle.verify import verify
from saman.registry.listing import describe_version, list_versions
from saman.registry.store import protobuf
from saman.registry.store.layout import ModelFolder, parse_spec
from saman.registry.tables import details_view, listing_table
from saman.registry.versions import find_version


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
    assert about.signature["inputs"]["inputs"]["dtype"] == "float32"
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


def test_list_and_show_print(tmp_path: Path) -> None:
    from rich.console import Console

    published(tmp_path)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(listing_table(list_versions(tmp_path / "models")))
    console.print(details_view(describe_version(tmp_path / "models", "digits")))
    text = console.export_text()
    assert "val_accuracy 0.95" in text and "float32" in text and "saved_model.pb" in text


def test_warm_up_requests_hold_the_stored_examples(tmp_path: Path) -> None:
    version = published(tmp_path)
    logs = list(protobuf.records((version.path / "assets.extra/tf_serving_warmup_requests").read_bytes()))
    assert len(logs) == 2
    [(field, log)] = protobuf.fields(logs[1])
    assert field == 6
    [(_, request)] = protobuf.fields(bytes(log))
    spec, entry = (bytes(value) for _, value in protobuf.fields(bytes(request)))
    assert dict(protobuf.fields(spec)) == {1: b"digits", 3: b"serving_default"}
    tensor = dict(protobuf.fields(bytes(dict(protobuf.fields(entry))[2])))
    assert tensor[1] == 1 and len(bytes(tensor[4])) == 8 * 64 * 4


def test_the_crc_is_the_one_of_the_standard() -> None:
    assert protobuf.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


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


@pytest.mark.tensorflow
@pytest.mark.slow
def test_tensorflow_serving_reads_the_warm_up_requests_and_models_config(tmp_path: Path, foreign: Path) -> None:
    """Its own message classes, in a process of their own, for their TensorFlow must be imported first."""
    version = published(tmp_path)
    promote(tmp_path / "models", "digits:1")
    program = (
        "import sys, json; sys.path.append(sys.argv[2])\n"
        "import tensorflow as tf\n"
        "from tensorflow_serving.apis import prediction_log_pb2\n"
        "for record in tf.data.TFRecordDataset(sys.argv[1]):\n"
        "    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())\n"
        "    request = log.predict_log.request\n"
        "    value = tf.make_ndarray(request.inputs['inputs'])\n"
        "    spec = request.model_spec\n"
        "    print(json.dumps([spec.name, spec.signature_name, value.shape, float(value.sum())]))\n"
        "from google.protobuf import text_format\n"
        "from tensorflow_serving.config import model_server_config_pb2\n"
        "text = open(sys.argv[3]).read()\n"
        "[one] = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config\n"
        "versions = list(one.model_version_policy.specific.versions)\n"
        "print(json.dumps([one.name, one.base_path, one.model_platform, versions, dict(one.version_labels)]))\n"
    )
    packages = next((foreign / "lib").glob("python3*")) / "site-packages"
    command = [sys.executable, "-c", program, str(version.path / "assets.extra/tf_serving_warmup_requests")]
    config = str(tmp_path / "models" / "models.config")
    done = subprocess.run([*command, str(packages), config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    with np.load(version.path / "assets.extra/validation.npz") as stored:
        sums = [float(stored["inputs"][:count].sum()) for count in (1, 8)]
    *found, served = [json.loads(line) for line in done.stdout.strip().splitlines()]
    assert served == ["digits", str(tmp_path / "models" / "digits"), "tensorflow", [1], {"stable": 1}]
    assert found == [["digits", "serving_default", [n, 8, 8], total] for n, total in zip((1, 8), sums, strict=True)]
