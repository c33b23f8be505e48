"""Rollouts in a front: users keep their version, answers are counted once, and the rollout ends by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.registry.registry_kit import published

from saman.cli.main import main
from saman.configs.errors import UserError
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.pruning import prune
from saman.registry.listing import read_history
from saman.registry.rollout.control import finish, pause, start
from saman.registry.rollout.page import render_page, sequences
from saman.registry.rollout.records import RolloutFiles
from saman.registry.rollout.settle import look, settle
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model, replay
from saman.registry.store.rollouts import RolloutOutcome, RolloutStrategy
from saman.serving.rollout.rollout_traffic import RolloutTraffic
from saman.serving.traffic import AnsweredRequest, RequestFacts, open_traffic


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for seed in range(3):
        published(tmp_path, seed=seed)
    promote(tmp_path / "models", "digits:1")
    (tmp_path / "models" / "policy.yaml").write_text(
        "rollout:\n  errors_tolerance: 0.2\n  accuracy_tolerance: 0.2\n  latency_quantiles: [0.5]\n"
        "  budget: {requests: 4000}\n"
    )
    return tmp_path / "models"


@pytest.fixture
def traffic(models: Path, monkeypatch: pytest.MonkeyPatch) -> RolloutTraffic:
    """A front that takes a step only when a test says so, and starts no judge."""
    front = open_traffic(models)
    assert isinstance(front, RolloutTraffic)
    monkeypatch.setattr(RolloutTraffic, "_work", lambda self: None)
    monkeypatch.setattr(RolloutTraffic, "_start_judge", lambda self: None)
    return front


def request(number: int, user: str = "") -> RequestFacts:
    metadata = {"x-user-id": user} if user else {}
    return RequestFacts(f"r{number}", metadata, "serving_default", {"inputs": np.zeros((1, 4), dtype="float32")})


def scores(winner: int) -> dict[str, Any]:
    return {"outputs": np.eye(10, dtype="float32")[[winner]]}


def send(front: RolloutTraffic, number: int, winner: dict[int, int], user: str = "", failing: int = 0) -> int:
    """A request as a front treats it; returns the version that answered."""
    facts = request(number, user)
    route = front.route("digits", 1, facts)
    for version in (route.version, *route.mirrors):
        status = "INTERNAL" if version == failing else "OK"
        outputs = {} if version == failing else scores(winner.get(version, 3))
        front.observe(AnsweredRequest("digits", version, facts, 0.0, 0.002, status, outputs,
                                      is_mirror=version in route.mirrors))  # fmt: skip
    return route.version


def test_a_user_keeps_the_version_on_every_front(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.CANARY, traffic=0.3, key="user_id")
    other = RolloutTraffic(models)
    chosen = {}
    for user in range(400):
        versions = {send(front, n, {}, user=f"u{user}") for n, front in enumerate((traffic, other, traffic))}
        assert len(versions) == 1
        chosen[user] = versions.pop()
    share = list(chosen.values()).count(3) / len(chosen)
    assert set(chosen.values()) == {1, 3} and 0.2 < share < 0.4
    finish(models, "digits", RolloutOutcome.ABORTED)
    start(models, "digits:3", RolloutStrategy.CANARY, traffic=0.3, key="user_id")
    traffic.follow("digits")
    again = {user: send(traffic, user, {}, user=f"u{user}") for user in range(400)}
    assert again != chosen  # a new rollout has a new key


@pytest.mark.parametrize("outcome", [RolloutOutcome.ABORTED, RolloutOutcome.PROMOTED])
def test_the_end_and_the_label_of_a_rollout_are_a_single_entry(models: Path, outcome: RolloutOutcome) -> None:
    """A kill, or a reader, between 2 entries finds no rollout that has ended and still labels its candidate."""
    start(models, "digits:3", RolloutStrategy.CANARY, traffic=0.5)
    finish(models, "digits", outcome)
    entries = read_history(models, "digits")
    for count in range(1, len(entries) + 1):
        state = replay("digits", entries[:count])
        assert state.rollout is None or state.rollout.is_active or "canary" not in state.assigned, entries[count - 1]


def test_the_end_of_a_rollout_leaves_a_label_that_was_moved_to_another_version(models: Path) -> None:
    start(models, "digits:3", RolloutStrategy.CANARY, traffic=0.5)
    promote(models, "digits:2", "canary")
    assert finish(models, "digits", RolloutOutcome.ABORTED).state.assigned == {"stable": 1, "canary": 2}


def test_a_user_counts_once(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.AB, key="user_id")
    for number in range(500):
        send(traffic, number, {}, user=f"u{number % 10}")
    traffic.follow("digits")
    status = look(ModelFolder(models, "digits"))
    assert status is not None and sum(status.judgement.requests) == 10


def test_a_worse_candidate_is_rolled_back_with_its_evidence(models: Path, traffic: RolloutTraffic) -> None:
    rollout = start(models, "digits:3", RolloutStrategy.CANARY, traffic=0.5, why="new data")
    assert read_model(ModelFolder(models, "digits")).assigned == {"stable": 1, "canary": 3}
    noise = np.random.default_rng(0)
    for number in range(600):
        send(traffic, number, {1: 3, 3: 3 if noise.random() < 0.6 else 4})
        body = json.dumps({"request_id": f"r{number}", "label": 3}).encode()
        answer = traffic.handle("feedback", "digits", body, {})
        assert answer is not None and json.loads(answer.body) == {"counted": 1, "handed_on": 0}
    traffic.follow("digits")
    ended = settle(ModelFolder(models, "digits"))
    assert ended is not None and ended.outcome is RolloutOutcome.ROLLED_BACK and ended.id == rollout.id
    state = read_model(ModelFolder(models, "digits"))
    assert state.assigned == {"stable": 1} and state.active_rollout is None
    [entry] = [entry for entry in read_history(models, "digits") if entry.text("event") == "end"]
    assert entry.who == "saman rollout" and "loss of accuracy" in entry.why
    [loss] = [found for found in entry.facts["evidence"]["findings"] if found["metric"] == "accuracy"]
    assert loss["is_harmful"] and 0.2 < loss["lower"] < 0.4 < loss["upper"]
    traffic.follow("digits")
    assert {send(traffic, number, {}) for number in range(50)} == {1}


def test_an_equal_candidate_becomes_stable(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.AB)
    for number in range(600):
        send(traffic, number, {})
    traffic.follow("digits")
    ended = settle(ModelFolder(models, "digits"))
    assert ended is not None and ended.outcome is RolloutOutcome.PROMOTED
    assert read_model(ModelFolder(models, "digits")).assigned == {"stable": 3}


def test_a_spent_budget_ends_without_promotion(models: Path, traffic: RolloutTraffic) -> None:
    (models / "policy.yaml").write_text("rollout: {errors_tolerance: 0.001, budget: {requests: 100}}\n")
    start(models, "digits:3", RolloutStrategy.AB)
    for number in range(110):
        send(traffic, number, {})
    traffic.follow("digits")
    ended = settle(ModelFolder(models, "digits"))
    assert ended is not None and ended.outcome is RolloutOutcome.EXPIRED and "budget of requests" in ended.why
    assert read_model(ModelFolder(models, "digits")).assigned == {"stable": 1}


def test_a_shadow_compares_both_answers_to_a_request(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.SHADOW)
    for number in range(100):
        assert send(traffic, number, {1: 3, 3: 3 if number % 4 else 5}) == 1
    traffic.follow("digits")
    folder = ModelFolder(models, "digits")
    evidence = RolloutFiles.of(folder, read_model(folder).rollout).read_evidence(1)  # type: ignore[arg-type]
    assert evidence.disagreements.tolist() == [25, 100] and evidence.requests.tolist() == [100, 100]


def test_blue_green_answers_by_the_candidate_at_once(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.BLUE_GREEN)
    assert {send(traffic, number, {}, failing=3) for number in range(60)} == {3}
    traffic.follow("digits")
    ended = settle(ModelFolder(models, "digits"))
    assert ended is not None and ended.outcome is RolloutOutcome.ROLLED_BACK and "excess of errors" in ended.why


def test_a_paused_rollout_sends_and_counts_nothing(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.AB)
    pause(models, "digits")
    traffic.follow("digits")
    assert {send(traffic, number, {}) for number in range(50)} == {1}
    status = look(ModelFolder(models, "digits"))
    assert status is not None and status.rollout.is_paused and sum(status.judgement.requests) == 0
    pause(models, "digits", resume=True)
    traffic.follow("digits")
    assert {send(traffic, number, {}) for number in range(50)} == {1, 3}


def test_feedback_reaches_the_front_that_answered(models: Path, traffic: RolloutTraffic) -> None:
    start(models, "digits:3", RolloutStrategy.AB)
    other = RolloutTraffic(models)
    for number in range(200):
        send(traffic, number, {})
    body = json.dumps([{"request_id": f"r{number}", "label": 3} for number in range(200)]).encode()
    answer = other.handle("feedback", "digits", body, {})
    assert answer is not None and json.loads(answer.body) == {"counted": 0, "handed_on": 200}
    for _ in range(2):  # reading twice counts once
        traffic.follow("digits")
    folder = ModelFolder(models, "digits")
    rollout = read_model(folder).rollout
    assert rollout is not None
    assert 50 < RolloutFiles.of(folder, rollout).read_evidence(1).losses.blocks <= 100


@pytest.mark.parametrize("body", [b"", b"{", b"[]x", b'{"label": 3}', b'{"request_id": "a", "label": "x"}', b"[[[]]]"])
def test_broken_feedback_is_refused(models: Path, traffic: RolloutTraffic, body: bytes) -> None:
    start(models, "digits:3", RolloutStrategy.AB)
    answer = traffic.handle("feedback", "digits", body, {})
    assert answer is not None and answer.status == 400
    assert traffic.handle("predict", "digits", b"{}", {}) is None


def test_no_rollout_changes_nothing(models: Path, traffic: RolloutTraffic) -> None:
    assert send(traffic, 1, {}) == 1
    assert traffic.route("unknown", 7, request(1)).version == 7
    answer = traffic.handle("feedback", "digits", b"{}", {})
    assert answer is not None and answer.status == 404


def test_a_rollout_protects_its_versions_and_excludes_another(models: Path) -> None:
    start(models, "digits:3", RolloutStrategy.AB)
    with pytest.raises(UserError, match="is active"):
        start(models, "digits:2", RolloutStrategy.AB)
    with pytest.raises(UserError, match="in use: canary"):
        prune(models, "digits:3")
    finish(models, "digits", RolloutOutcome.ABORTED)
    with pytest.raises(UserError, match="is stable already"):
        start(models, "digits:1", RolloutStrategy.AB)
    with pytest.raises(UserError, match="no active rollout"):
        finish(models, "digits", RolloutOutcome.ABORTED)


def test_the_page_shows_every_sequence_and_escapes_what_people_typed(models: Path, traffic: RolloutTraffic) -> None:
    (models / "policy.yaml").unlink()
    start(models, "digits:3", RolloutStrategy.AB)
    folder = ModelFolder(models, "digits")
    for number in range(300):
        send(traffic, number, {})
        if number % 60 == 59:
            traffic.follow("digits")
            settle(folder)
    history = RolloutFiles.of(folder, read_model(folder).rollout).read_history()  # type: ignore[arg-type]
    assert len(history) >= 3
    found = {sequence.name for sequence in sequences(history)}
    assert {"excess of errors", "ratio of latencies at 0.95"} <= found
    if read_model(folder).active_rollout is not None:
        finish(models, "digits", RolloutOutcome.ABORTED, why="<script>alert(1)</script>")
    page = traffic.page("/rollouts/digits")
    assert page is not None and page.status == 200
    text = page.body.decode()
    assert text == render_page(folder) and text.count("<svg") == len(found) and "<script>" not in text
    assert traffic.page("/rollouts/../etc") is not None and traffic.page("/v1/models/digits") is None


def test_the_commands_tell_the_same_in_json(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(["rollout", *words, "--models-dir", str(models)])
        assert ended.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    begun = json.loads(call("start", "digits:3", "--traffic", "10%", "--key", "user_id", "--json"))
    assert (begun["version"], begun["traffic"], begun["key"], begun["outcome"]) == (3, 0.1, "user_id", None)
    assert "salt" not in begun
    status = json.loads(call("status", "digits", "--json"))
    assert status["id"] == begun["id"] and status["judgement"]["verdict"] == "go on"
    assert "excess of errors" in call("status", "digits")
    assert json.loads(call("pause", "digits", "--json"))["paused"] is True
    assert json.loads(call("resume", "digits", "--json"))["paused"] is False
    assert json.loads(call("promote", "digits", "--json"))["outcome"] == "promoted"
    assert read_model(ModelFolder(models, "digits")).assigned == {"stable": 3}


@pytest.mark.parametrize("part", ["0", "-1", "200%", "x", "nan"])
def test_a_part_of_the_traffic_that_is_none_is_refused(models: Path, part: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rollout", "start", "digits:3", "--traffic", part, "--models-dir", str(models)])
    assert ended.value.code == 2
