"""A process that was stopped while it held a lock of the registry or of a run blocks no command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from registry_kit import finished_run, published

from saman.configs.schemas.tracking import Tracking
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.promotion import promote
from saman.registry.listing import list_versions
from saman.registry.tracking import delivery

# Only the standard library: what anyone on the machine, or on another node, can do.
HOLD = """
import fcntl, os, struct, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture
def stopped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with a model, and a stopped process that holds the lock named by the parameter."""
    published(tmp_path)
    run = finished_run(tmp_path, seed=3)
    lock = tmp_path / "models" / ".models.config.lock" if request.param == "registry" else run.tracking_lock
    with subprocess.Popen([sys.executable, "-I", "-c", HOLD, lock], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        os.kill(process.pid, signal.SIGSTOP)
        yield tmp_path
        process.kill()


@pytest.mark.parametrize("stopped", ["registry"], indirect=True)
def test_a_stopped_holder_of_the_lock_of_models_config_delays_a_promotion_by_seconds_only(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_config, "_LOCK_SECONDS", 0.5)
    models, began = stopped / "models", time.monotonic()
    promote(models, "digits:1")
    assert list_versions(models)[0].labels == ("stable",)
    assert "stable" in (models / serving_config.FILE).read_text() and serving_config.is_current(models)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("stopped", ["run"], indirect=True)
def test_a_stopped_delivery_of_a_run_does_not_block_the_next(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.runs.find import find_runs

    monkeypatch.setattr(delivery, "_LOCK_SECONDS", 0.5)
    run, began = find_runs(stopped / "runs")[-1], time.monotonic()
    sent = delivery.track(run, Tracking(tensorboard=str(stopped / "boards")))
    assert "stopped" in sent.problem and time.monotonic() - began < 10
