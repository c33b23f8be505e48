"""Tokens are kept as digests, compared whole, and asked of every request."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.serving.front.access import OPEN, add_token, read_access
from saman.serving.front.metrics import RequestMetrics
from saman.serving.interface.status import ServingError, StatusCode


def test_a_token_opens_and_its_file_does_not_hold_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    tokens = [add_token(file, "ann"), add_token(file, "bob\nroot")]
    assert not any(token in file.read_text() for token in tokens)
    assert len(file.read_text().splitlines()) == 2 and file.stat().st_mode & 0o077 == 0
    access = read_access(file)
    for token in tokens:
        access.check({"authorization": f"Bearer {token}"})
    for wrong in ({}, {"authorization": tokens[0]}, {"authorization": f"Bearer {tokens[0]}x"},
                  {"authorization": "Bearer "}, {"authorization": f"Basic {tokens[0]}"}):  # fmt: skip
        with pytest.raises(ServingError) as refusal:
            access.check(wrong)
        assert refusal.value.code is StatusCode.UNAUTHENTICATED
    OPEN.check({})


@pytest.mark.parametrize("text", ["", "# nothing\n", "secret\n", "0" * 63 + " a\n"])
def test_a_file_without_sound_digests_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    (tmp_path / "tokens").chmod(0o600)
    with pytest.raises(UserError):
        read_access(tmp_path / "tokens")


def test_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "a")
    (tmp_path / "tokens").chmod(0o644)
    with pytest.raises(UserError, match="others"):
        read_access(tmp_path / "tokens")


def test_histograms_add_up() -> None:
    metrics = RequestMetrics()
    for microseconds in (5.0, 500.0, 1e12):
        metrics.count("m", "Predict", "REST", "OK", microseconds, 2)
    lines = metrics.render().splitlines()
    buckets = [int(line.rpartition(" ")[2]) for line in lines if "request_latency_bucket" in line]
    assert buckets == sorted(buckets) and buckets[0] == 1 and buckets[-1] == 3
    assert ':tensorflow:serving:request_example_count_total{model="m"} 6' in lines
