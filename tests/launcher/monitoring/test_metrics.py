"""Metrics say what is known and nothing else, in a format that Prometheus accepts, to those who may read them."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pydantic import ValidationError
from runs_to_watch import PROGRESS, running

from saman.configs.schemas.monitoring import Metrics
from saman.launcher.monitoring.exposition import SampleValue, Series, exposition
from saman.launcher.monitoring.monitor import Monitor
from saman.launcher.supervision.views import SilentView
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import EventKind
from saman.runs.folder import RunFolder
from saman.runs.ranks.rank_events import SlowRank
from saman.runs.ranks.training_events import CheckpointSave, NonFinite, RolledBack


class Said(SilentView):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def values(text: str) -> dict[str, float]:
    """The samples of an exposition, by name and labels without those of the run."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            metric, _, labels = name.partition("{")
            own = [
                each for each in labels.rstrip("}").split(",") if each and not each.startswith(("run=", "experiment="))
            ]
            found[f"{metric}{{{','.join(own)}}}" if own else metric] = float(value)
    return found


def read(url: str, token: str | None = None) -> str:
    request = urllib.request.Request(url, headers={} if token is None else {"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def url_of(view: Said) -> str:
    return next(text.split(" ", 1)[1] for text in view.said if text.startswith("metrics: "))


def eventful(folder: Path) -> RunFolder:
    run = running(folder)
    run.append(EventKind.RESTARTING, "supervisor", 1, reason="a rank died")
    run.append("attempt_started", "supervisor", 2, ranks=3)
    for event in (CheckpointSave(100, "step-00000100"), NonFinite(80, "dense/kernel", (1,), "rollback", 2),
                  RolledBack(70, 80)):  # fmt: skip
        run.append(event.kind, "rank 0", 2, **event.facts())
    for slow in (SlowRank(0, "n0", 0.4, 90), SlowRank(2, "n1", 0.3, 90), SlowRank(1, "n1", 0.5, 90),
                 SlowRank(1, "n1", 0.5, 95, ended=True)):  # fmt: skip
        run.append(EventKind.STRAGGLER, "supervisor", 2, **slow.facts())
    for world in (WorldFormed(1, "start", (0, 1, 2)), WorldFormed(2, "loss", (2,), lost=(0, 1)),
                  WorldFormed(3, "join", (2, 0), joined=(0,))):  # fmt: skip
        run.append(EventKind.WORLD, "supervisor", 2, **world.facts())
    return run


def test_every_known_value_is_shown_and_no_other(tmp_path: Path) -> None:
    view = Said()
    monitor = Monitor(eventful(tmp_path), Metrics(port=0), view, {"SLURM_JOB_END_TIME": str(int(time.time()) + 500)})
    try:
        before = values(read(url_of(view)))
        monitor.progress(PROGRESS)
        after = values(read(url_of(view)))
    finally:
        monitor.close()
    assert before["saman_world_size"] == 2 and before["saman_lost_ranks_total"] == 2  # one has come back
    assert before["saman_recoveries_total"] == 1
    assert before["saman_restarts_total"] == 1 and before["saman_attempt"] == 2
    assert before["saman_nonfinite_steps_total"] == 2 and before["saman_rollbacks_total"] == 1
    assert 0 <= before["saman_checkpoint_age_seconds"] < 60 and before["saman_checkpoint_step"] == 100
    assert (
        before["saman_stragglers"] == 1 and before['saman_straggler_ratio{rank="2",node="n1"}'] == 0.3
    )  # rank 0 is lost
    assert 400 < before["saman_time_limit_seconds_left"] <= 500
    assert before['saman_run_info{state="running"}'] == 1
    unknown = {"saman_loss", "saman_samples_per_second", "saman_goodput_ratio", "saman_gpu_memory_bytes"}
    assert not unknown & {name.partition("{")[0] for name in before}  # absent, not zero
    assert after["saman_samples_per_second"] == 5321.5 and after["saman_loss"] == 0.25 and after["saman_step"] == 120
    assert after["saman_own_seconds"] == 0.008 and after["saman_exchange_seconds"] == 0.002
    assert after['saman_step_seconds{q="0.95"}'] == 0.012 and after['saman_metric{metric="val_accuracy"}'] == 0.91
    assert after["saman_memory_bytes"] == 2**30


@pytest.mark.prometheus
def test_prometheus_accepts_the_format(tmp_path: Path) -> None:
    monitor = Monitor(eventful(tmp_path), Metrics(textfile=str(tmp_path)), Said())
    monitor.progress(PROGRESS)
    text = monitor.text() + exposition([Series("odd", 'a "name"\n\\', (SampleValue(1e-9, {"x": 'q"\\\n'}),))], {})
    monitor.close()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_textfile_is_written_whole_and_removed_at_the_end(tmp_path: Path) -> None:
    run = running(tmp_path)
    monitor = Monitor(run, Metrics(textfile=str(tmp_path)), Said())
    file = tmp_path / f"saman-{run.id}.prom"
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert values(file.read_text())["saman_world_size"] == 4 and file.stat().st_mode & 0o004
    monitor.close()
    assert not list(tmp_path.glob("*.prom*"))


def test_a_port_that_is_taken_is_told_and_does_not_end_the_run(tmp_path: Path) -> None:
    first, second = Said(), Said()
    one = Monitor(running(tmp_path), Metrics(port=0), first)
    port = int(url_of(first).split(":")[2].partition("/")[0])
    two = Monitor(running(tmp_path), Metrics(port=port), second)
    two.close()
    assert second.said == [f"no metrics: port {port} of 127.0.0.1: Address already in use"]
    assert "saman_world_size" in read(url_of(first))
    one.close()
    with pytest.raises(urllib.error.URLError):
        read(url_of(first))


def test_a_token_is_asked_for_and_must_be_private(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-long-token\n")
    token.chmod(0o600)
    view = Said()
    monitor = Monitor(running(tmp_path), Metrics(port=0, token_file=str(token)), view)
    try:
        for wrong in (None, "another"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                read(url_of(view), wrong)
            assert refused.value.code == 401
        assert "saman_world_size" in read(url_of(view), "a-long-token")
        with pytest.raises(urllib.error.HTTPError) as unknown:
            read(url_of(view).replace("/metrics", "/other"), "a-long-token")
        assert unknown.value.code == 404
    finally:
        monitor.close()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"port": 9464, "address": "0.0.0.0"}, "can be reached from other machines: set token_file"),
        ({"address": "127.0.0.1"}, "set port, textfile or both"),
        ({"port": 9464, "address": "localhost"}, "is not an IP address"),
    ],
)
def test_metrics_that_nobody_or_everybody_could_read_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Metrics.model_validate(wrong)


def test_gpus_are_shown_where_nvidia_smi_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.launcher.monitoring.gpus import read_gpus

    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nprintf '0, 87, 1024, 40960\\n1, [N/A], 5, 40960\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    first, second = read_gpus()
    assert (first.utilization, first.used_bytes, second.utilization) == (0.87, 2**30, None)
