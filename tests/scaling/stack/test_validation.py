"""The validation: nothing that is judged teaches, the rules are always beside it, and the bounds know the sources."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saman.scaling.models.laws import ScalingPoint
from saman.scaling.models.published import read_series
from saman.scaling.models.series import ScalingSeries
from saman.scaling.stack.conformal import far_widening
from saman.scaling.stack.forecast import forecast_curve
from saman.scaling.stack.rules import Rule, rule_mixtures
from saman.scaling.stack.scores import clustered_gain, clustered_share, interval_scores
from saman.scaling.stack.training import cases_of
from saman.scaling.stack.validation import (
    CoverageVerdict,
    Validation,
    alarm_score,
    class_results,
    comparisons,
    near,
    table_digest,
    validate,
)
from saman.scaling.stack.weights import shipped_stack

KEPT_BACK = Path(__file__).parents[3] / "benchmarks/scaling/held_back_training.json"
_FEW = ("hvd-476", "hvd-1194", "itwinai", "xdit", "stateset")


def _few_sources() -> list[ScalingSeries]:
    return [track for track in read_series() if track.id.startswith(_FEW)]


@pytest.fixture(scope="module")
def judged() -> Validation:
    """A few small sources, each judged by what the others taught."""
    found = validate(_few_sources(), ())
    assert found is not None
    return found


def test_the_shipped_weights_were_trained_on_the_shipped_table() -> None:
    stack = shipped_stack()
    assert stack.table == table_digest(read_series()), "python -m saman.scaling.validate --write-weights FILE"
    assert stack.sources >= 20
    assert list(stack.misses) == sorted(stack.misses)


def test_forecasts_beat_a_power_law_on_training_of_sources_that_were_kept_back() -> None:
    """Ten sources that taught nothing: both lower bounds of the gain, clustered by source, are above 0."""
    kept_back = read_series(KEPT_BACK)
    others = {track.source for track in (*read_series(), *read_series(KEPT_BACK.with_name("held_back.json")))}
    assert not others & {track.source for track in kept_back}
    stack = shipped_stack()  # trained on the shipped table alone
    data = cases_of(kept_back)
    data = data.rows(np.array([case.ranks <= 4 * case.fitted_to for case in data.cases]))
    own, rule = stack.mixtures(data.at), rule_mixtures(Rule.POWER_LAW, data, stack.power_law)
    scores = [interval_scores(each.quantiles(0.05), each.quantiles(0.95), data.outcomes, 0.9) for each in (own, rule)]
    in_nats = clustered_gain(own.log_density(data.outcomes) - rule.log_density(data.outcomes), data.sources)
    in_width = clustered_gain(scores[1] - scores[0], data.sources, scores[1])
    assert in_nats.sources == 10
    assert in_nats.lower is not None
    assert in_nats.lower > 0
    assert in_width.lower is not None
    assert in_width.lower > 0


def test_the_judged_source_teaches_nothing(judged: Validation) -> None:
    tracks = _few_sources()
    mine = next(track for track in tracks if track.id == "itwinai-virgo-ddp")
    last = mine.points[-1]
    changed = [
        replace(track, points=(*track.points[:-1], replace(last, throughput=50 * last.throughput)))
        if track is mine
        else track
        for track in tracks
    ]
    before, after = judged, validate(changed, ())
    assert after is not None
    rows = [case.series.source == mine.source for case in before.data.cases]
    assert np.array_equal(before.stack.middle[rows], after.stack.middle[rows])
    assert np.array_equal(before.stack.low[rows], after.stack.low[rows])
    assert not np.array_equal(before.stack.log_scores[rows], after.stack.log_scores[rows])


def test_a_series_under_another_name_does_not_teach_itself(judged: Validation) -> None:
    tracks = _few_sources()
    mine = [track for track in tracks if track.id.startswith("itwinai")]
    copies = [replace(track, source="a copy", id=f"copy of {track.id}") for track in mine]
    beside = validate(tracks, copies)
    assert beside is not None
    rows = [case.series.id.startswith("itwinai") for case in judged.data.cases]
    assert np.array_equal(judged.stack.middle[rows], beside.stack.middle[rows])


def test_every_simple_rule_stands_beside_the_stack(judged: Validation) -> None:
    assert {each.rule for each in comparisons(judged)} == set(Rule)
    names = {result.name.partition(":")[0] for result in class_results(judged)}
    assert names >= {"mode", "distance", "boundary"}


def test_an_alarm_can_be_wrong_and_a_shortfall_can_be_missed(judged: Validation) -> None:
    """What a point shows changes the verdict of an alarm, never the alarm: that was raised before."""
    count = int(near(judged).sum())
    cautious = replace(judged, shortfall_probability=np.ones_like(judged.shortfall_probability))
    blind = replace(judged, shortfall_probability=np.zeros_like(judged.shortfall_probability))
    fell = replace(judged, data=replace(judged.data, outcomes=judged.data.outcomes - 5))
    assert alarm_score(cautious).false_alarms == count - alarm_score(judged).shortfalls
    assert alarm_score(cautious).false_alarms > 0
    assert alarm_score(replace(blind, data=fell.data)).misses == count
    assert alarm_score(fell).hits + alarm_score(fell).misses == alarm_score(fell).shortfalls == count


def test_bounds_count_sources_and_not_forecasts() -> None:
    gains = np.array([1.0, 1.0, 1.0, -0.5])
    sources = np.array(["a", "a", "a", "b"])
    assert clustered_gain(gains, sources).lower is None
    many = clustered_gain(np.repeat([1.0, 0.8, 1.2, 0.9], 15), np.repeat(["a", "b", "c", "d"], 15))
    assert many.lower is not None
    assert many.lower < many.value
    few_sources = clustered_gain(np.repeat([1.0, -1.0, 2.0], 20), np.repeat(["a", "b", "c"], 20))
    assert few_sources.lower is not None
    assert few_sources.lower < 0 < few_sources.value


def test_an_interval_score_pays_for_width_and_for_misses() -> None:
    low, high = np.array([0.0, 0.0]), np.array([1.0, 2.0])
    inside, outside = np.array([0.5, 0.5]), np.array([2.0, 2.0])
    assert interval_scores(low, high, inside, 0.9).tolist() == [1.0, 2.0]
    assert interval_scores(low, high, outside, 0.9).tolist() == pytest.approx([21.0, 2.0])


def test_seconds_per_epoch_are_forecast_to_rise(judged: Validation) -> None:
    """Seconds fitted as a rate would fall with the ranks."""
    seconds = np.array([case.series.unit == "s/epoch" for case in judged.data.cases])
    last = np.array([np.log(case.series.points[case.origin - 1].throughput) for case in judged.data.cases])
    assert seconds.any()
    assert (judged.stack.middle[seconds] > last[seconds]).all()


def test_the_command_prints_the_rules_always_and_refuses_what_is_no_table(tmp_path: Path) -> None:
    points = [{"gpus": n, "value": 10 * n**0.9} for n in (1, 2, 4, 8, 16)]
    others = [{"gpus": n, "value": 10 * n**0.8} for n in (1, 2, 4, 8)]
    table = tmp_path / "table.json"
    series = [
        {"id": "mine", "source": "s", "unit": "images/s", "points": points},
        {"id": "other", "source": "t", "unit": "images/s", "points": others},
        {"id": "share", "source": "s", "unit": "efficiency", "points": points},
        {"id": "short", "source": "s", "points": points[:3]},
    ]
    table.write_text(json.dumps({"data_parallel": series}))
    command = [sys.executable, "-m", "saman.scaling.validate"]
    done = subprocess.run([*command, str(table), "--json", "--only"], capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout)
    assert {each["rule"] for each in facts["rules"]} == {rule.value for rule in Rule}
    assert {"log_score_gain", "interval_score_gain"} <= set(facts["rules"][0])
    assert facts["refused"][0]["id"] == "share"
    assert facts["not_enough_data"] == ["short"]
    total, (every, *_) = facts["totals"]["coverage"], facts["classes"]
    assert total["nominal"] == 0.9
    assert (total["low"], total["high"]) == (every["coverage_low"], every["coverage_high"])  # clustered by source, both
    table.write_text('{"data_parallel": [{"id": "a", "source": "b", "points": [{"gpus": 1, "value": 0}]}]}')
    refused = subprocess.run([*command, str(table)], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "not a throughput" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_table_without_four_points_says_so() -> None:
    short = ScalingSeries("s", "short", tuple(ScalingPoint(n, float(n)) for n in (1, 2, 4)))
    assert validate([short], read_series()) is None


def test_an_interval_of_coverage_counts_sources_and_not_forecasts() -> None:
    """Simulated tables whose sources share their luck: the true share lies in nine of ten intervals at least."""
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(300):
        luck = rng.beta(0.9 * 3, 0.1 * 3, 12)
        sizes = rng.integers(1, 40, 12)
        sources = np.repeat([f"s{number}" for number in range(12)], sizes)
        low, high = clustered_share(rng.random(len(sources)) < np.repeat(luck, sizes), sources)
        inside += low <= 0.9 <= high
    assert inside >= 0.9 * 300
    everything = np.ones(60, bool)
    low, high = clustered_share(everything, np.repeat(["a", "b", "c"], 20))
    assert (low, high) == (pytest.approx(0.025 ** (1 / 3)), 1.0)  # three sources, not sixty forecasts
    evenly = np.tile(np.arange(10) < 9, 30)
    low, high = clustered_share(evenly, np.repeat([f"s{number}" for number in range(30)], 10))
    assert 0.85 < low < 0.9 < high < 0.95


def test_a_coverage_is_called_off_only_where_its_interval_shows_it(judged: Validation) -> None:
    (every, *_) = class_results(judged)
    assert every.verdict is CoverageVerdict.UNDETERMINED  # five sources determine nothing to five points
    assert every.coverage_low < every.coverage <= every.coverage_high
    nowhere = replace(judged, stack=replace(judged.stack, high=judged.stack.low))
    assert class_results(nowhere)[0].verdict is CoverageVerdict.OFF


def test_forecasts_beyond_four_times_are_as_much_wider_as_other_sources_were_wrong() -> None:
    sources = np.repeat(["a", "b", "c", "d"], 25)
    misses = np.tile(np.linspace(0.02, 2.0, 25), 4)  # nine of ten are below 1.8
    assert far_widening(misses, sources) == pytest.approx(1.8, abs=0.1)
    assert far_widening(misses / 4, sources) == 1.0  # never narrower
    assert far_widening(misses[:50], sources[:50]) == 1.0  # two sources show nothing
    points = tuple(ScalingPoint(n, 50 * n**0.9) for n in (1, 2, 4, 8))
    stack = shipped_stack()
    assert stack.far > 1
    found, plain = (
        forecast_curve(points, [ScalingPoint(n, 0.0) for n in (32, 64)], stack=each)
        for each in (stack, replace(stack, far=1.0))
    )
    assert found is not None and plain is not None
    widths = [
        [float(np.log((each.high or 0) / (each.low or 1))) for each in several.forecasts] for several in (found, plain)
    ]
    assert widths[0][0] == pytest.approx(widths[1][0])
    assert widths[0][1] == pytest.approx(stack.far * widths[1][1])
    assert found.forecasts[1].throughput == pytest.approx(plain.forecasts[1].throughput)
