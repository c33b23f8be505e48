"""ASHA beside a sampler that learns: late trials are compared with the newest of their rung."""

from __future__ import annotations

import random

from saman.tuning.halving import RecentHalving


def run_whole_search(recent: int | None, trials: int = 200) -> tuple[int, float, int]:
    """Trials one after another, each a little better than those before; returns complete, least loss, epochs run."""
    rule = RecentHalving(first_rung=1, reduction_factor=4, recent=recent or trials)
    generator, epochs, complete = random.Random(3), {}, []
    for number in range(trials):
        loss = 1.0 - 0.9 * number / trials + 0.4 * generator.random()
        epochs[number] = {}
        for epoch in range(1, 28):
            epochs[number][epoch] = loss
            if epoch < 27 and rule.is_behind(number, epochs):
                break
        else:
            complete.append(loss)
    return len(complete), min(complete), sum(map(len, epochs.values()))


def test_a_sampler_that_improves_does_not_run_most_trials_to_their_end() -> None:
    alone, best_alone, epochs_alone = run_whole_search(recent=None)
    complete, best, epochs = run_whole_search(recent=12)
    assert alone > 40  # among all trials, the late ones are always the best
    assert complete < 50 and epochs < 0.6 * epochs_alone
    assert best <= best_alone + 0.02


def test_a_trial_that_is_the_best_so_far_always_goes_on() -> None:
    rule = RecentHalving(first_rung=1, reduction_factor=3, recent=9)
    epochs = {number: {1: 1.0 - 0.01 * number} for number in range(20)}
    assert not rule.is_behind(19, epochs)
    assert rule.is_behind(18, epochs | {20: {1: 0.5}, 21: {1: 0.4}, 22: {1: 0.3}})


def test_only_a_rung_decides_and_each_rung_once() -> None:
    rule = RecentHalving(first_rung=2, reduction_factor=2, recent=4)
    better = {number: {1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0} for number in range(4)}
    assert not rule.is_behind(9, better | {9: {1: 5.0}})
    assert rule.is_behind(9, better | {9: {1: 5.0, 2: 5.0}})
    assert not rule.is_behind(9, better | {9: {1: 5.0, 2: 5.0, 3: 5.0}})
    assert rule.is_behind(9, better | {9: {1: 5.0, 3: 5.0}}), "a rung that was passed between two reports counts"


def test_higher_is_better_where_the_study_says_so_and_nan_is_worst() -> None:
    up = RecentHalving(first_rung=1, reduction_factor=2, recent=4, maximize=True)
    assert up.is_behind(2, {0: {1: 0.9}, 1: {1: 0.8}, 2: {1: 0.1}})
    assert not up.is_behind(2, {0: {1: 0.1}, 1: {1: 0.2}, 2: {1: 0.9}})
    assert up.is_behind(1, {0: {1: 0.9}, 1: {1: float("nan")}})
