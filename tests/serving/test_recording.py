"""Recorded requests: off unless the policy asks, bounded, and without the fields that it hides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.registry.registry_kit import published

from saman.configs.schemas.policy import Policy, RecordingPolicy
from saman.registry.store.layout import ModelFolder
from saman.serving import recording
from saman.serving.recording import RequestRecording, requests_folder
from saman.serving.rollout.rollout_traffic import RolloutTraffic
from saman.serving.routing import AnsweredRequest, RequestFacts
from saman.trainers.infer.rows import InputSpec
from saman.trainers.infer.tables import open_parquet


def answered(number: int, rows: int = 2, **facts: Any) -> AnsweredRequest:
    inputs = {"inputs": np.arange(rows * 4, dtype="float32").reshape(rows, 4) + number}
    request = RequestFacts(f"r{number}", {"user_id": f"user{number}", "cookie": "secret"}, "serving_default", inputs)
    outputs = {"outputs": np.full((rows, 3), 0.5, dtype="float32")}
    return AnsweredRequest("digits", 1, request, 1000.0 + number, 0.002, "OK", outputs, **facts)


def recorder(folder: Path, **policy: Any) -> RequestRecording:
    (folder / "digits" / ".saman").mkdir(parents=True, exist_ok=True)
    return RequestRecording(ModelFolder(folder, "digits"), RecordingPolicy(fraction=1.0, **policy), "s1")


def test_nothing_is_recorded_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RolloutTraffic, "_work", lambda self: None)
    published(tmp_path)
    traffic = RolloutTraffic(tmp_path / "models")
    traffic.route("digits", 1, answered(0).facts)
    for number in range(50):
        traffic.observe(answered(number))
    traffic.follow("digits")
    traffic.close()
    assert Policy().recording.fraction == 0.0
    assert not requests_folder(ModelFolder(tmp_path / "models", "digits")).exists()


def test_a_policy_that_asks_is_followed_while_the_server_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RolloutTraffic, "_work", lambda self: None)
    published(tmp_path)
    traffic = RolloutTraffic(tmp_path / "models")
    traffic.observe(answered(0))
    (tmp_path / "models" / "policy.yaml").write_text("recording: {fraction: 1}\n")
    traffic.follow("digits")
    for number in range(5):
        traffic.observe(answered(number))
    traffic.close()
    [part] = requests_folder(ModelFolder(tmp_path / "models", "digits")).glob("*.parquet")
    assert pl.read_parquet(part)["request_id"].to_list() == [f"r{n}" for n in range(5) for _ in range(2)]


def test_batch_inference_reads_what_was_recorded(tmp_path: Path) -> None:
    requests = recorder(tmp_path)
    for number in range(3):
        requests.observe(answered(number))
    part = requests.flush(now=True)
    assert part is not None and part.stat().st_mode & 0o077 == 0
    source = open_parquet(part, InputSpec("float32", (4,)))
    assert source.rows == 6
    assert source.read(0, 6).values.tolist() == [[r * 4 + c + n for c in range(4)] for n in range(3) for r in range(2)]
    frame = pl.read_parquet(part)
    assert frame["version"].unique().to_list() == [1] and frame["outputs"][0].to_list() == [0.5, 0.5, 0.5]
    assert not [name for name in frame.columns if "cookie" in name or "user" in name]  # headers by choice only


def test_fields_are_dropped_and_hashed(tmp_path: Path) -> None:
    requests = recorder(tmp_path, headers=["user_id"], hash=["user_id"], drop=["request_id", "inputs"])
    requests.observe(answered(7))
    requests.observe(answered(7))
    part = requests.flush(now=True)
    assert part is not None
    frame = pl.read_parquet(part)
    assert "inputs" not in frame.columns and "request_id" not in frame.columns
    [digest] = frame["header.user_id"].unique().to_list()
    assert len(digest) == 32 and b"user7" not in part.read_bytes()
    other = recorder(tmp_path / "other", headers=["user_id"], hash=["user_id"])
    other.observe(answered(7))
    part = other.flush(now=True)
    assert part is not None and pl.read_parquet(part)["header.user_id"][0] != digest  # each model has its own key


def test_memory_and_disk_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST_ROWS", 100)
    requests = recorder(tmp_path, most_bytes="20K")
    for number in range(500):
        requests.observe(answered(number))
    assert requests.dropped == 900
    for _ in range(20):
        requests.observe(answered(1, rows=90))
        requests.flush(now=True)
    parts = list(requests_folder(ModelFolder(tmp_path, "digits")).glob("*.parquet"))
    assert 1 <= len(parts) < 21 and sum(part.stat().st_size for part in parts) <= 20 * 1024


def test_a_sample_has_its_size(tmp_path: Path) -> None:
    (tmp_path / "digits" / ".saman").mkdir(parents=True)
    requests = RequestRecording(ModelFolder(tmp_path, "digits"), RecordingPolicy(fraction=0.1), "s1")
    for number in range(3000):
        requests.observe(answered(number, rows=1))
    requests.observe(answered(1, is_mirror=True))
    part = requests.flush(now=True)
    assert part is not None and 200 < pl.read_parquet(part).height < 420
