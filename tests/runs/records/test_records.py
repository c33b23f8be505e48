"""JSON files that rooms share: what is written is read back; former layouts are read, newer layouts refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.runs.records.energy import EnergyRecord
from saman.runs.records.experiment import read_written
from saman.runs.records.export import ExportRecord, Normalization, Signature, SignatureTensor
from saman.runs.records.inference import InferencePlanRecord, InferenceRequestRecord
from saman.runs.records.provenance import CodeState, DataFile, DataIdentity, Host, Provenance
from saman.runs.records.schema import NewerSchema
from saman.runs.records.study import ImpossibleSettings, PlannedRunRecord, StudyRecord
from saman.runs.records.summary import Summary

TENSOR = SignatureTensor("float32", (None, 8, 8))
RECORDS: list[Any] = [
    EnergyRecord(12.5, ("rapl intel-rapl:0",)),
    Summary("failed", message="rank 1: out of memory", seconds=3.5, ranks=(1,), attempts=2, samples_per_second=None,
            step=7, epoch=1, metrics={"loss": 0.5}, failure={"first": [{"rank": 1}]}, more={"windows": 3}),
    Provenance(time="2026-01-01T00:00:00+00:00", command_line=("saman", "run"), directory="/tmp",
               git=CodeState("a" * 40, "main", True, "+x", False, ("new.py",)), versions={"python": "3.11"},
               host=Host("node", "n0", "Linux", "CPU", 8, 2**34, ("A100",)), mpi="Open MPI 4.1",
               slurm_job={"job_id": "7"}, environment={"A": "b"}, start_method="mpirun",
               data=DataIdentity("d" * 64, 2, 30, True, (DataFile("a", 10, "e" * 64), DataFile("b", 20)),
                                 {"name": "birds"}, ("b",)), more={"later": 1}),
    ExportRecord(True, Signature("serving_default", {"inputs": TENSOR}, {"outputs": TENSOR}),
                 {"saved_model": 0.0, "keras": 1e-7}, 1e-4, Normalization.SAVED_MODEL, {"loss": 0.1}, 9, 2, 100,
                 "float32", "mse", False, {"split": "validation", "examples": 10}, {"source": "digits"}, {"mean": 1.0},
                 {"keras": "3"}, {"later": 1}),
    StudyRecord({"name": "curve"}, (PlannedRunRecord("a-1", "a", 1, {"ranks": 2}, 2, 1),), "/curve.yaml", 4,
                (ImpossibleSettings({"ranks": 3}, "it does not divide"),)),
    InferenceRequestRecord("/models/m/1", "f" * 64, ("/in",), "/out.parquet", "inputs", "float32", (8, 8), 256, 4096),
    InferencePlanRecord((10, 20), ("array", "images"), ("x", "y")),
]  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    record.write(file)
    assert type(record).read(file) == record
    assert isinstance(json.loads(file.read_text())["schema"], int)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_newer_schema_is_refused_with_the_file_and_what_to_do(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    record.write(file)
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))
    with pytest.raises(NewerSchema) as caught:
        type(record).read(file)
    assert caught.value.where == str(file) and "99" in caught.value.problem and caught.value.remedy


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_file_without_a_schema_is_of_the_first(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    record.write(file)
    plain = json.loads(file.read_text())
    del plain["schema"]
    file.write_text(json.dumps(plain))
    assert type(record).read(file) == record


@pytest.mark.parametrize("kind", [EnergyRecord, Summary, Provenance, StudyRecord, InferenceRequestRecord])
@pytest.mark.parametrize("text", [None, "", '{"schema": 1, "jou', "[1, 2]"])
def test_a_missing_or_torn_file_is_no_record(kind: Any, text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    if text is not None:
        file.write_text(text)
    assert kind.read(file) is None


def test_an_export_of_the_first_schema_is_read(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    sentence = "inside the SavedModel; model.keras takes inputs that are already normalised"
    plain = {"schema": 1, "checked": True, "max_difference": 0.0, "normalization": sentence, "metrics": {"a": 1}}
    file.write_text(json.dumps(plain))
    record = ExportRecord.read(file)
    assert record.normalization is Normalization.SAVED_MODEL
    assert record.max_difference == {} and record.metrics == {"a": 1.0} and not record.signature.inputs
    file.write_text(json.dumps({**plain, "normalization": "none"}))
    assert ExportRecord.read(file).normalization is Normalization.NONE


def test_a_torn_export_is_a_users_matter(tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("{")
    with pytest.raises(UserError):
        ExportRecord.read(tmp_path / "export.json")


def test_a_published_provenance_leaves_the_environment_out() -> None:
    record = next(record for record in RECORDS if isinstance(record, Provenance))
    plain = record.to_json(with_environment=False)
    assert "environment" not in plain and plain["git"]["commit"] == "a" * 40


def _of_pydantic(written: Path) -> tuple[str, int, int]:
    from saman.configs import yaml12
    from saman.configs.schemas.experiment import Experiment

    experiment = Experiment.model_validate(yaml12.read(written))
    return experiment.digest(), experiment.resources.ranks, experiment.global_batch_size


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda values: values["train"].update(global_batch_size=None, batch_size_per_rank=16),
        lambda values: values["resources"].update(nodes=2, ranks_per_node=4),
    ],
)
def test_the_quick_reader_agrees_with_the_schema(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    from saman.configs import yaml12
    from saman.configs.loading.experiments import load_experiment
    from saman.configs.schemas.experiment import Experiment

    values = load_experiment(
        "quickstart", ["train.strategy=horovod", "train.global_batch_size=64"]
    ).experiment.resolved()
    change(values)
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml12.dump(Experiment.model_validate(values).resolved()))
    quick = read_written(file)
    assert (quick.digest, quick.ranks, quick.global_batch_size) == _of_pydantic(file)
