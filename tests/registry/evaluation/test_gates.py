"""Gates: a version that is worse, too large, too slow or not approved of does not become stable."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from registry_kit import finished_run, published

from saman.configs.errors import UserError
from saman.registry.evaluation.gates import Gate, GateOutcome, PublishRefusal, check_at_promotion
from saman.registry.evaluation.paired_comparison import compare, mcnemar, tango_lower
from saman.registry.evaluation.stable_comparison import measure_overlap
from saman.registry.lifecycle.approval import approve
from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.listing import list_versions
from saman.registry.store.layout import VALIDATION, ModelFolder
from saman.runs.folder import RunFolder

MakeRun = Callable[..., RunFolder]


def _policy(models_dir: Path, text: str) -> None:
    models_dir.mkdir(exist_ok=True)
    (models_dir / "policy.yaml").write_text(text)


def test_metric_and_size_are_looked_at_before_anything_is_published(tmp_path: Path) -> None:
    _policy(tmp_path / "models", "metrics: [{metric: val_accuracy, at_least: 0.9}]\nsize_at_most: 1K\n")
    run = finished_run(tmp_path, accuracy=0.5)
    with pytest.raises(PublishRefusal) as refusal:
        publish(run, tmp_path / "models")
    text = str(refusal.value)
    assert "val_accuracy is 0.5, must be at least 0.9" in text and "at most 1.0 KiB" in text
    assert list_versions(tmp_path / "models") == [] and run.events()[-1].kind == "not_published"
    assert (run.export / "saved_model/saved_model.pb").is_file()


def test_a_stable_version_needs_the_approvals_that_the_policy_asks_for(tmp_path: Path) -> None:
    published(tmp_path)
    _policy(tmp_path / "models", "approvals: {at_least: 2, by: [ada, bob, cyd]}\n")
    promote(tmp_path / "models", "digits:1", "canary")  # needs none
    approve(tmp_path / "models", "digits:1", "ada")
    with pytest.raises(PublishRefusal, match="1 of 2 approvals"):
        promote(tmp_path / "models", "digits:1")
    approve(tmp_path / "models", "digits:1", "cyd")
    change = promote(tmp_path / "models", "digits:1")
    assert change.entry is not None and change.entry.facts["gates"][0]["facts"]["by"] == ["ada", "cyd"]


def test_a_gate_that_cannot_measure_a_version_refuses_it(tmp_path: Path) -> None:
    published(tmp_path)
    version = published(tmp_path, seed=1)
    (version.path / VALIDATION).unlink()
    _policy(tmp_path / "models", "latency_at_most_milliseconds: 10\n")
    folder = ModelFolder(tmp_path / "models", "digits")
    with pytest.raises(PublishRefusal, match="validation sample"):
        check_at_promotion(folder, version.number, "stable")
    assert check_at_promotion(folder, version.number, "canary") == []


def test_the_outcome_of_every_gate_is_recorded_in_the_manifest(tmp_path: Path) -> None:
    _policy(tmp_path / "models", "metrics: [{metric: val_accuracy, at_least: 0.9}]\nsize_at_most: 1M\n")
    gates = published(tmp_path).manifest.gates
    assert [(gate.gate, gate.passed, gate.outcome) for gate in gates] == [
        (Gate.METRIC.value, True, GateOutcome.PASSED.value),
        (Gate.SIZE.value, True, GateOutcome.PASSED.value),
    ]


def test_mistakes_in_a_policy_are_named(tmp_path: Path) -> None:
    published(tmp_path)
    _policy(tmp_path / "models", "compare: {tolerence: 0.1}\napprovals: {at_least: 0}\n")
    with pytest.raises(UserError, match="tolerance") as error:
        promote(tmp_path / "models", "digits:1")
    assert len(error.value.others) == 1


@pytest.mark.slow
@pytest.mark.tensorflow
def test_a_worse_model_is_refused_by_a_paired_test_and_an_equal_one_is_not(tmp_path: Path, real_run: MakeRun) -> None:
    models = tmp_path / "models"
    _policy(models, "compare: {tolerance: 0.02}\nlatency_at_most_milliseconds: 10000\n")
    assert publish(real_run(tmp_path, "good"), models).number == 1
    promote(models, "images:1")
    with pytest.raises(PublishRefusal, match="McNemar") as refusal:
        publish(real_run(tmp_path, "poor"), models)
    assert "of stable version 1" in str(refusal.value) and "allowed is 0.02" in str(refusal.value)
    again = publish(real_run(tmp_path, "good"), models)
    [latency, compared] = again.manifest.gates
    assert again.number == 2 and compared.facts["difference"] == 0 and compared.facts["p_value"] == 1
    assert "not known" in compared.facts["overlap"]["text"]
    assert latency.facts["milliseconds"] > 0
    _policy(models, "latency_at_most_milliseconds: 0.000001\n")
    with pytest.raises(PublishRefusal, match="latency of an example"):
        promote(models, "images:2")


def test_overlap_with_the_stable_models_training_data_is_counted(tmp_path: Path) -> None:
    np.savez(tmp_path / "candidate.npz", ids=np.arange(10))
    np.savez(tmp_path / "stable.npz", training_ids=np.arange(7, 100))
    found = measure_overlap(tmp_path / "candidate.npz", tmp_path / "stable.npz")
    assert found.examples == 3 and "3 of these 10" in found.text


# ---- the paired test -------------------------------------------------------------------------------------------


def test_the_bound_solves_the_score_equation() -> None:
    z = 1.6448536
    for count in (20, 1000):  # without discordant pairs the score equation has a closed solution
        assert tango_lower(0, 0, count, 0.95) == pytest.approx(-(z**2) / (count + z**2), rel=1e-4)
    bounds = [tango_lower(better, 10, 400, 0.95) for better in range(5, 30)]
    assert bounds == sorted(bounds)


def test_the_exact_test_is_the_binomials() -> None:
    """Summed by hand: all outcomes of fair coins that are at most as likely as the observed outcome."""
    for better, worse in ((0, 0), (3, 3), (1, 9), (40, 22), (0, 5)):
        total = better + worse
        ways = [math.comb(total, k) for k in range(total + 1)]
        expected = sum(way for way in ways if way <= ways[better]) / 2**total
        assert mcnemar(better, worse) == pytest.approx(expected)


def test_the_bound_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    true_difference, below, rounds = -0.02, 0, 600
    for _ in range(rounds):
        draw = rng.random(400)
        better, worse = int((draw < 0.05).sum()), int(((draw >= 0.05) & (draw < 0.12)).sum())
        below += tango_lower(better, worse, 400, 0.95) <= true_difference
    assert 0.925 <= below / rounds <= 0.975


def test_regressions_are_compared_by_squared_errors() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(300, 1))
    near, far = truth + 0.1 * rng.normal(size=truth.shape), truth + 0.5 * rng.normal(size=truth.shape)
    assert compare(near, far, truth, 0.95).lower > 0 > compare(far, near, truth, 0.95).lower


def test_answers_that_are_not_finite_are_wrong() -> None:
    labels = np.array([0, 1])
    sound, broken = np.eye(2), np.array([[np.nan, 0], [0, 1.0]])
    found = compare(broken, sound, labels, 0.95)
    assert found.candidate == 0.5 and found.stable == 1.0
