"""Which trial is the best, which count, and what may start: values to values."""

from __future__ import annotations

import itertools

import pytest

from saman.configs.schemas.tuning import Choice, Range, TuningObjective
from saman.tuning.budget import Standing, free_places
from saman.tuning.space import filled, overrides, params_of, settings_of
from saman.tuning.trials import Trial, TrialOutcome, best_trial, counted, outcomes, pareto_front

ACCURACY = TuningObjective(metric="val_accuracy", goal="maximize")
SECONDS = TuningObjective(metric="seconds", goal="minimize")


def trial(number: int, *values: float, **facts: object) -> Trial:
    outcome = TrialOutcome.COMPLETE if values else TrialOutcome.PRUNED
    plain = {"outcome": outcome, "values": values or None, **facts}
    return Trial(number, {"x": number}, **plain)  # type: ignore[arg-type]


def test_the_best_trial_follows_the_goal() -> None:
    trials = [trial(0, 0.7), trial(1, 0.9), trial(2, 0.8), trial(3)]
    assert best_trial(trials, [ACCURACY]) == trials[1]
    assert best_trial(trials, [SECONDS]) == trials[0]
    assert best_trial([trial(3)], [ACCURACY]) is None


def test_the_front_holds_exactly_the_trials_that_none_dominates() -> None:
    values = [(0.9, 30.0), (0.8, 10.0), (0.8, 20.0), (0.7, 10.0), (0.95, 90.0), (0.9, 30.0)]
    trials = [trial(number, *pair) for number, pair in enumerate(values)]
    expected = set()
    for number, (accuracy, seconds) in enumerate(values):
        others = itertools.chain(values[:number], values[number + 1 :])
        if not any(a >= accuracy and s <= seconds and (a, s) != (accuracy, seconds) for a, s in others):
            expected.add(number)
    assert {each.number for each in pareto_front(trials, [ACCURACY, SECONDS])} == expected == {0, 1, 4, 5}
    best = best_trial(trials, [ACCURACY, SECONDS])
    assert best is not None and best.number == 4  # the best first objective of the front


def test_a_continued_trial_counts_once() -> None:
    trials = [trial(0), trial(1, 0.8), trial(2, 0.9, continues=0)]
    assert [each.number for each in counted(trials)] == [1, 2]
    assert outcomes(trials) == {"complete": 2}


@pytest.mark.parametrize(
    ("standing", "most", "hours", "expected"),
    [
        (Standing(0, 0, 0.0, 1.0), 10, None, 4),
        (Standing(9, 2, 0.0, 1.0), 10, None, 1),
        (Standing(10, 0, 0.0, 1.0), 10, None, 0),
        (Standing(5, 1, 2.0, 0.5), None, 3.4, 1),  # 1.4 left: two at the price of 0.5, one of them under way
        (Standing(5, 0, 3.2, 0.5), None, 3.4, 0),
        (Standing(5, 0, 4.0, 0.5), None, 3.4, 0),
    ],
)
def test_trials_start_within_concurrency_number_and_budget(
    standing: Standing, most: int | None, hours: float | None, expected: int
) -> None:
    assert free_places(standing, most, 4, hours) == expected


def test_values_of_any_type_survive_the_storage() -> None:
    space = {"a": Choice(choices=[[64], {"name": "sgd"}, None, "text", 3]), "b": Range(low=1, high=9)}
    for value in [[64], {"name": "sgd"}, None, "text", 3]:
        settings = {"a": value, "b": 4}
        assert settings_of(space, params_of(space, settings)) == settings


def test_values_become_changes_of_an_experiment_and_words_of_a_command() -> None:
    settings = {"train.learning_rate.base": 1e-05, "model.args.hidden": [8, 8], "x": "a b; rm"}
    assert overrides(settings)[:2] == ["train.learning_rate.base=1e-05", "model.args.hidden=[8, 8]"]
    command = filled(["p", "--lr={train.learning_rate.base}", "{x}", "{other}"], settings)
    assert command == ["p", "--lr=1e-05", "a b; rm", "{other}"]
