"""Profiles of layers are kept in the user's cache folder, wherever that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.pipeline import profile_cache
from saman.pipeline.chain import Chain, Layer, Link
from saman.pipeline.profile import Profile
from saman.pipeline.profile_cache import load


def test_a_profile_is_read_from_the_chosen_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load_experiment("quickstart").experiment
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "chosen"))
    file = profile_cache._file(experiment, [], 1)
    assert file.parent == tmp_path / "chosen" / "profiles"
    layer = Layer(name="dense", forward_seconds=0.1, backward_seconds=0.2, parameter_bytes=8, activation_bytes=8)
    made = Profile(
        chain=Chain((layer,), (0,), (0,), {}), link=Link(1e-6, 1e9), examples=32, whole_seconds=0.3, about={}
    )
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(made.to_json()))
    assert load(experiment, [], 1) == made
    monkeypatch.delenv("SAMAN_CACHE_DIR")
    assert load(experiment, [], 1) is None
