"""Mutations of the page of a report: findings 8 and 16 of the audit of numbers, put back into the code."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

OPENING, PAGE = "tests/scaling/report/test_opening.py", "tests/scaling/report/test_page.py"

MUTATIONS = (
    Mutation(
        "finding 8: a winner is named where no difference is shown",
        "scaling/report/opening.py",
        "alike = [contrast for contrast in against if not contrast.verdict.different]",
        "alike: list[Contrast] = []",
        f"{OPENING}::test_equal_truths_have_no_winner",
    ),
    Mutation(
        "finding 8: only curves that reach the largest count compete",
        "scaling/analysis/curves.py",
        "return max((n for n in counts if counts.count(n) >= max(2, most / 2)), default=None)",
        "return max(counts, default=None)",
        f"{OPENING}::test_a_series_that_was_not_run_on_the_largest_count_competes_too",
    ),
    Mutation(
        "finding 16: captions lack the number of runs and the level",
        "scaling/report/figures/vega.py",
        'return f"{runs}; whiskers: {LEVEL:.0%} intervals',
        'return f"whiskers: intervals',
        f"{PAGE}::test_every_caption_says_how_many_runs_and_which_level",
    ),
    Mutation(
        "finding 16: logarithmic axes are unmarked",
        "scaling/report/figures/vega.py",
        'LOG_MARK = " (log scale)"',
        'LOG_MARK = ""',
        f"{PAGE}::test_logarithmic_axes_are_marked_and_linear_ones_are_not",
    ),
    Mutation(
        "finding 16: tables have no caption",
        "scaling/report/report.html.j2",
        "<caption>{{ table.note or table.title }}</caption>",
        "",
        f"{PAGE}::test_every_table_has_a_caption_and_every_head_a_scope",
    ),
    Mutation(
        "finding 16: heads of tables have no scope",
        "scaling/report/report.html.j2",
        '<th scope="col" role="columnheader"',
        '<th role="columnheader"',
        f"{PAGE}::test_every_table_has_a_caption_and_every_head_a_scope",
    ),
    Mutation(
        "finding 16: a latency of 3.22e-14 steps is unflagged",
        "scaling/report/page_tables.py",
        "if is_cost and row.value < _ZERO_SECONDS_PER_STEP:",
        "if False:",
        f"{PAGE}::test_a_parameter_that_no_machine_has_is_flagged",
    ),
    Mutation(
        "finding 16: the set-up leaves the batch out",
        "scaling/report/setup_table.py",
        '    ("batch", _batch),\n',
        "",
        f"{PAGE}::test_the_set_up_is_told_as_in_a_methods_section",
    ),
    Mutation(
        "finding 16: the page says only how to write it again",
        "scaling/report/pages.py",
        "rerun=tuple(rerun) or _runs_again(analysis)",
        "rerun=(command,)",
        f"{PAGE}::test_the_page_has_the_command_that_runs_the_study_again",
    ),
    Mutation(
        "finding 16: on paper the table of points is cut off",
        "scaling/report/report.html.j2",
        "table { font-size: 7.5px; } th, td { white-space: normal;",
        "th, td {",
        f"{PAGE}::test_on_paper_every_column_is_printed_and_every_figure_drawn",
    ),
    Mutation(
        "finding 16: at 400 pixels every figure scrolls",
        "scaling/report/report.html.j2",
        "  .still.roomy { display: none; } figure:not(.live) .still.tight { display: block; }\n",
        "",
        f"{PAGE}::test_at_400_pixels_nothing_is_cut_and_nothing_scrolls_sideways",
    ),
)
