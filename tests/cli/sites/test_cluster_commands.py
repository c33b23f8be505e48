"""``saman clusters`` and ``saman doctor``: cluster files are listed, printed and checked; missing software is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saman.configs import yaml12
from saman.configs.loading.files import shipped
from saman.launcher.doctor import examination
from saman.launcher.doctor.diagnosis import Diagnosis


def test_own_cluster_files_stand_beside_the_shipped_ones(saman: Any, tmp_path: Path) -> None:
    own = tmp_path / "config" / "saman" / "clusters"
    own.mkdir(parents=True)
    (own / "mysite.yaml").write_text(saman("clusters", "show", "minicluster").out)
    listed = saman("clusters", "list").out.splitlines()
    assert [line.split()[0] for line in listed] == [*shipped("clusters"), "mysite"]
    assert saman("clusters", "check", "mysite").status == 0


@pytest.mark.parametrize("name", shipped("clusters"))
def test_a_shipped_cluster_file_is_printed_with_its_comments_and_is_correct(saman: Any, name: str) -> None:
    shown = saman("clusters", "show", name).out
    assert "#" in shown and yaml12.parse(shown, name)["partitions"]
    assert saman("clusters", "check", name).status == 0


def test_every_mistake_of_a_cluster_file_is_named_with_its_key(saman: Any, tmp_path: Path) -> None:
    text = saman("clusters", "show", "minicluster").out
    values = yaml12.parse(text, "x")
    values["partitions"][0]["cores_per_nod"] = 4
    values["requeue"] = {"by": "hand"}
    (tmp_path / "wrong.yaml").write_text(yaml12.dump(values))
    refused = saman("clusters", "check", "wrong.yaml")
    assert refused.status == 2
    assert "cores_per_nod" in refused.err and "requeue.by" in refused.err


def _examined(monkeypatch: pytest.MonkeyPatch, *findings: Diagnosis) -> None:
    monkeypatch.setattr(examination, "examine", lambda *_: list(findings))


def test_the_doctor_fails_only_for_what_training_needs(saman: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _examined(monkeypatch, Diagnosis("Python", "ok", "3.11", needed=True), Diagnosis("Slurm", "missing", "no commands"))
    assert saman("doctor").status == 0
    _examined(monkeypatch, Diagnosis("TensorFlow", "missing", "not installed", "saman setup", needed=True))
    sick = saman("doctor")
    assert sick.status == 3 and "TensorFlow" in sick.out and "saman setup" in sick.out
    assert saman("doctor", "--json").json["can_train"] is False
