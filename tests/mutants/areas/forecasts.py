"""Mutations of forecasts: findings 1 to 4, 7 and 15 of the audit of numbers, put back into the code."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

STACK, MODELS, TRACK = "tests/scaling/stack", "tests/scaling/models", "tests/scaling/track"
PIPELINES = "tests/scaling/pipelines/test_pipeline_forecasts.py"

MUTATIONS = (
    Mutation(
        "finding 1: a forecast is no better than a power law",
        "scaling/stack/weights.py",
        "POWER_LAW_SHARE = 0.2",
        "POWER_LAW_SHARE = 1.0",
        f"{STACK}/test_validation.py::test_forecasts_beat_a_power_law_on_training_of_sources_that_were_kept_back",
    ),
    Mutation(
        "finding 1: a source teaches its own forecasts",
        "scaling/stack/validation.py",
        "if track.source != source and _points_key(track) not in own and",
        "if",
        f"{STACK}/test_validation.py::test_the_judged_source_teaches_nothing",
    ),
    Mutation(
        "finding 2: widths depend on the distance alone",
        "scaling/stack/weights.py",
        "grown + np.exp(2 * self.disagreement) * apart + at.noise**2",
        "at.doublings ** (2 * self.growth) * np.exp(2 * self.base)",
        f"{STACK}/test_stack.py::test_width_follows_the_curve_and_not_the_distance_alone",
    ),
    Mutation(
        "finding 2: the prior decides the law, not the data",
        "scaling/stack/weights.py",
        "+ _EVIDENCE * at.evidence + np.exp(self.fit_evidence) * at.fits",
        "+ 0.0 * at.evidence",
        f"{STACK}/test_stack.py::test_the_data_decide_the_weights",
    ),
    Mutation(
        "finding 2: strong scaling is read as weak",
        "scaling/models/published.py",
        'if value == "strong":\n        return "strong"',
        'if value == "strong":\n        return "weak"',
        f"{MODELS}/test_units.py::test_strong_scaling_is_read_as_strong",
    ),
    Mutation(
        "finding 3: seconds per epoch are fitted as if they were a rate",
        "scaling/models/units.py",
        "    return 1 / value",
        "    return value",
        f"{MODELS}/test_units.py::test_seconds_per_epoch_become_a_rate_that_rises",
    ),
    Mutation(
        "finding 3: a machine type that is not in the table is a single node",
        "scaling/models/hardware.py",
        "    return _MACHINES[max(machines, key=len)] if machines else None",
        "    return None",
        f"{MODELS}/test_units.py::test_ranks_per_node_do_not_hang_on_the_words_of_one_table",
    ),
    Mutation(
        "finding 4: an alarm is the shortfall itself",
        "scaling/stack/validation.py",
        "raised = (found.shortfall_probability >= ALARM_PROBABILITY)[members]",
        "raised = short",
        f"{STACK}/test_validation.py::test_an_alarm_can_be_wrong_and_a_shortfall_can_be_missed",
    ),
    Mutation(
        "finding 7: a page predicts a pipeline twice",
        "scaling/analysis/analysis.py",
        "if any(point.stages for point in points):",
        "if False:",
        f"{PIPELINES}::test_a_page_predicts_every_configuration_once",
    ),
    Mutation(
        "finding 15: wall time counts as work of a pipeline",
        "scaling/pipelines/measured.py",
        "        return cpu\n",
        "        return tuple(mean.busy for mean in means)\n",
        f"{PIPELINES}::test_nine_of_ten_truths_lie_in_the_intervals_on_cores_that_are_shared_and_not",
    ),
    Mutation(
        "finding 15: a replica's input wait is taken to divide by the replicas",
        "scaling/pipelines/terms.py",
        '    "step": lambda shape, cores: 1.0,  # the start of an epoch',
        '    "step": lambda shape, cores: 0.0,  # the start of an epoch',
        f"{PIPELINES}::test_what_is_no_pass_is_forecast_too",
    ),
    Mutation(
        "finding 15: medians of a pipeline's parts lose its stalls",
        "scaling/analysis/stages.py",
        "input_wait=known(process.input_wait for process in processes)",
        "input_wait=float(np.median(np.concatenate([process.input_wait for process in processes])))",
        f"{PIPELINES}::test_what_is_no_pass_is_forecast_too",
    ),
    Mutation(
        "the interval of all coverage ignores that forecasts of a source depend on each other",
        "scaling/validate.py",
        "low, high = clustered_share(covered, found.data.sources[members])",
        "low, high = clustered_share(covered, np.arange(len(covered)).astype(str))",
        f"{STACK}/test_validation.py::test_the_command_prints_the_rules_always_and_refuses_what_is_no_table",
    ),
    Mutation(
        "finding 15: a model that misses its runs predicts all the same",
        "scaling/pipelines/cross_check.py",
        "LARGEST_MISFIT = 0.25",
        "LARGEST_MISFIT = 25.0",
        f"{PIPELINES}::test_a_model_that_misses_its_runs_by_more_than_a_quarter_predicts_nothing",
    ),
    Mutation(
        "a setting that came later makes another series",
        "scaling/analysis/results.py",
        "_Settings(_settings(with_defaults(trained)), identity)",
        "_Settings(_settings(trained), identity)",
        f"{TRACK}/test_versions.py::test_a_run_of_a_later_version_answers_the_forecast_from_runs_of_an_earlier_one",
    ),
    Mutation(
        "a setting that came later makes another cell of a forecast",
        "scaling/analysis/results.py",
        "changed = _settings(without_defaults(trained))",
        "changed = _settings(trained)",
        f"{TRACK}/test_versions.py::test_the_cell_of_a_forecast_does_not_depend_on_the_version_that_wrote_the_runs",
    ),
)
