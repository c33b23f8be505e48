"""TensorFlow Serving accepts every ``models.config``: a label in use moves only to a version that is loaded."""

from __future__ import annotations

import contextlib
import os
import random
import re
from pathlib import Path

import pytest
from registry_kit import published

from saman.cli.main import main
from saman.configs.errors import UserError
from saman.registry.lifecycle.promotion import promote, unlabel
from saman.registry.lifecycle.pruning import prune, retire
from saman.registry.lifecycle.reconcile import reconcile_all
from saman.registry.lifecycle.rollback import rollback
from saman.registry.lifecycle.serving_config import FILE, waiting_seconds
from saman.registry.lifecycle.verify import verify
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model

LOAD_SECONDS = 120  # the default


class RefusalError(Exception):
    """FailedPrecondition of the server."""


class Server:
    """``ServerCore::ReloadConfig`` of TensorFlow Serving: the labels are checked first, then the versions are loaded.

    After server_core.cc, with ``--allow_version_labels_for_unavailable_models``: a label may name a version that is not
    available unless the server knows the label with another version. A refused file changes nothing.
    """

    def __init__(self) -> None:
        self.available: dict[str, set[int]] = {}
        self.labels: dict[str, dict[str, int]] = {}

    def reload(self, text: str) -> None:
        configs = re.split(r"\n  config \{\n", text)[1:]
        parsed = {}
        for config in configs:
            [name] = re.findall(r'\bname: "(.*)"', config)
            parsed[name] = (
                {int(n) for n in re.findall(r"\bversions: (\d+)", config)},
                {label: int(n) for label, n in re.findall(r'key: "(.*)" value: (\d+)', config)},
            )
        new_label_map: dict[str, dict[str, int]] = {}
        for name, (_, labels) in parsed.items():
            for label, version in labels.items():
                existing = self.labels.get(name, {}).get(label)
                known_with_another = existing is not None and existing != version
                if known_with_another and version not in self.available.get(name, set()):
                    raise RefusalError(f"Request to assign label to version {version} of model {name}")
                new_label_map.setdefault(name, {})[label] = version
        self.labels = new_label_map
        self.available = {name: versions for name, (versions, _) in parsed.items()}


def _pass_time(models: Path, seconds: float) -> None:
    """Let the file grow older."""
    file = models / FILE
    written = file.stat().st_mtime - seconds
    os.utime(file, (written, written))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed in range(4):
        published(tmp_path, seed=seed)
    models = tmp_path / "models"
    promote(models, "digits:1")
    return models


@pytest.fixture
def server(models: Path) -> Server:
    server = Server()
    server.reload((models / FILE).read_text())
    assert server.labels == {"digits": {"stable": 1}}
    return server


def test_promoting_an_unlabelled_version_loads_it_before_the_label_moves(models: Path, server: Server) -> None:
    promote(models, "digits:2")
    server.reload((models / FILE).read_text())
    assert server.labels["digits"] == {"stable": 1, "previous": 1} and 2 in server.available["digits"]
    _pass_time(models, LOAD_SECONDS)
    reconcile_all(models)
    server.reload((models / FILE).read_text())
    assert server.labels["digits"] == {"stable": 2, "previous": 1}


def test_the_newest_version_is_loaded_before_anybody_promotes_it(models: Path, server: Server) -> None:
    assert server.available["digits"] == {1, 4}
    _pass_time(models, LOAD_SECONDS)
    promote(models, "digits:4")
    server.reload((models / FILE).read_text())
    assert server.labels["digits"] == {"stable": 4, "previous": 1}


def test_a_rollback_moves_the_label_at_once(models: Path, server: Server) -> None:
    _pass_time(models, LOAD_SECONDS)
    promote(models, "digits:4")
    server.reload((models / FILE).read_text())
    _pass_time(models, LOAD_SECONDS)
    rollback(models, "digits")
    server.reload((models / FILE).read_text())
    assert server.labels["digits"] == {"stable": 1}


def test_a_waiting_label_is_a_step_for_reconcile_and_no_damage(models: Path) -> None:
    folder = ModelFolder(models, "digits")
    assert waiting_seconds(folder) is None
    promote(models, "digits:2")
    waiting = waiting_seconds(folder)
    assert waiting is not None and LOAD_SECONDS - 60 < waiting <= LOAD_SECONDS
    assert verify(models) == [] and reconcile_all(models) == []
    _pass_time(models, LOAD_SECONDS)
    assert waiting_seconds(folder) == 0.0
    assert verify(models) == []  # late, and still a file that every server accepts
    assert [step.target for step in reconcile_all(models)] == [None]
    assert waiting_seconds(folder) is None and reconcile_all(models) == []


def test_the_policy_sets_how_long_a_server_needs(models: Path) -> None:
    (models / "policy.yaml").write_text("tensorflow_serving: {load_seconds: 7}\n")
    promote(models, "digits:2")
    _pass_time(models, 8)
    reconcile_all(models)
    assert 'version_labels { key: "stable" value: 2 }' in (models / FILE).read_text()


def test_a_label_whose_version_was_pruned_waits_without_it(models: Path, server: Server) -> None:
    promote(models, "digits:2", "canary")
    server.reload((models / FILE).read_text())
    unlabel(models, "digits", "canary")
    prune(models, "digits:2")
    promote(models, "digits:3", "canary")
    text = (models / FILE).read_text()
    assert "versions: 3" in text and "canary" not in text and "versions: 2 " not in text


@pytest.mark.parametrize("seed", range(6))
def test_the_server_accepts_every_file_of_a_random_history(tmp_path: Path, seed: int) -> None:
    """It reads the file at any time, but at least once in the time that the policy allows it."""
    noise = random.Random(seed)
    models, server, last_poll = tmp_path / "models", Server(), 0.0
    (tmp_path / "models").mkdir()
    (models / "policy.yaml").write_text("tensorflow_serving: {load_seconds: 60}\n")
    published(tmp_path, seed=0)
    clock = 0.0
    for step in range(1, 40):
        with contextlib.suppress(UserError):  # a version that is in use, gone or not there
            _change(models, noise, step)
        seconds = noise.choice([1, 5, 30, 90])
        for _ in range(seconds):
            clock += 1.0
            if noise.random() < 0.05 or clock - last_poll > 55:
                server.reload((models / FILE).read_text())
                last_poll = clock
        _pass_time(models, seconds)
    _pass_time(models, 60)
    reconcile_all(models)
    server.reload((models / FILE).read_text())
    _pass_time(models, 60)
    reconcile_all(models)
    server.reload((models / FILE).read_text())
    assert server.labels.get("digits", {}) == read_model(ModelFolder(models, "digits")).labels


def _change(models: Path, noise: random.Random, step: int) -> None:
    version = noise.randint(1, 6)
    kind = noise.choice(["publish", "promote", "promote", "newest", "canary", "unlabel", "rollback", "prune", "retire"])
    if kind == "publish":
        published(models.parent, seed=step)
    elif kind == "promote":
        promote(models, f"digits:{version}")
    elif kind == "newest":
        promote(models, "digits")
    elif kind == "canary":
        promote(models, f"digits:{version}", "canary")
    elif kind == "unlabel":
        unlabel(models, "digits", "canary")
    elif kind == "rollback":
        rollback(models, "digits")
    elif kind == "prune":
        prune(models, f"digits:{version}")
    else:
        retire(models, f"digits:{version}")


def test_the_command_waits_for_the_label_or_says_when_it_moves(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "policy.yaml").write_text("tensorflow_serving: {load_seconds: 2}\n")
    for words in (["digits:2"], ["digits:3", "--wait"]):
        with pytest.raises(SystemExit) as ended:
            main(["models", "promote", *words, "--models-dir", str(models)])
        assert ended.value.code == 0
        moved = f'"stable" value: {words[0][-1]}' in (models / FILE).read_text()
        assert moved == ("--wait" in words)
        assert ("saman models reconcile" in capsys.readouterr().err) == (not moved)
