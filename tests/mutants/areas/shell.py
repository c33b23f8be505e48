"""Mutations of what reaches shells, Slurm and processes: quoting, signals, process ids, exit statuses."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

QUOTING, SCRIPT = "tests/slurm/script/test_quoting.py", "tests/slurm/submission/test_job_script.py"
PROCESSES, DECISIONS = "tests/launcher/supervision/test_attempt_processes.py", "tests/slurm/job/test_decisions.py"
FAILURES = "tests/launcher/supervision/test_failures.py"

MUTATIONS = (
    Mutation(
        "values reach bash unquoted",
        "slurm/script/quoting.py",
        "return ShellText(shlex.quote(text))",
        "return ShellText(text)",
        f"{QUOTING}::test_every_value_is_a_single_literal_word_of_bash",
    ),
    Mutation(
        "the template takes unquoted values",
        "slurm/script/templates.py",
        '        return value\n    raise TypeError(f"the job script got the unquoted value {value!r}")',
        "        return value\n    return value",
        f"{QUOTING}::test_the_template_takes_no_unquoted_value",
    ),
    Mutation(
        "sbatch reads patterns in a path",
        "slurm/script/quoting.py",
        'text.replace("%", "%%").replace',
        "text.replace",
        f"{QUOTING}::test_a_path_for_sbatch_has_its_patterns_doubled_and_its_quotes_escaped",
    ),
    Mutation(
        "a quote ends a path for sbatch",
        "slurm/script/quoting.py",
        """.replace('"', '\\\\"')""",
        "",
        f"{QUOTING}::test_a_path_for_sbatch_has_its_patterns_doubled_and_its_quotes_escaped",
    ),
    Mutation(
        "a line break in a path begins a line of the script",
        "slurm/script/quoting.py",
        "bad = control_characters(text)",
        'bad = control_characters(text.replace("\\n", " "))',
        f"{QUOTING}::test_a_path_that_sbatch_would_read_differently_is_refused",
    ),
    Mutation(
        "a comment spans lines",
        "slurm/script/quoting.py",
        'text.encode("unicode_escape").decode() if not text.isprintable() else text',
        "text",
        f"{QUOTING}::test_a_comment_stays_on_its_line",
    ),
    Mutation(
        "an account may hold options of sbatch",
        "configs/site/texts.py",
        "if compiled.fullmatch(text) is None:",
        "if False:",
        f"{SCRIPT}::test_what_reaches_an_sbatch_line_is_one_harmless_line_or_is_refused",
    ),
    Mutation(
        "an extra line may end its quotes",
        "configs/site/sbatch_options.py",
        r"""r'--([a-z][a-z0-9-]*)(=[^"\\]*)?'""",
        r"""r'(?s)--([a-z][a-z0-9-]*)(=.*)?'""",
        "tests/security/test_hostile_files.py::test_an_extra_line_for_sbatch_is_harmless_or_refused",
    ),
    Mutation(
        "a later process with the same pid is killed",
        "launcher/supervision/processes.py",
        "if now is not None and now.started == process.started:",
        "if now is not None:",
        f"{PROCESSES}::test_a_later_process_with_the_same_pid_is_not_signalled",
    ),
    Mutation(
        "orphans get SIGTERM instead of SIGKILL",
        "launcher/supervision/processes.py",
        "signal_processes(left.values(), signal.SIGKILL)",
        "signal_processes(left.values(), signal.SIGTERM)",
        f"{PROCESSES}::test_a_process_that_ignores_sigterm_is_killed",
    ),
    Mutation(
        "a program's name shifts the fields of its process",
        "launcher/supervision/processes.py",
        'text[text.rindex(")") + 2 :]',
        'text[text.index(")") + 2 :]',
        f"{PROCESSES}::test_a_name_with_parentheses_does_not_shift_the_fields_of_proc",
    ),
    Mutation(
        "who lost a peer is named the first failing rank",
        "launcher/supervision/failures.py",
        "causes = [rank for rank in failed if rank.kind is not FailureKind.PEER_LOST] or failed[:1]",
        "causes = failed",
        f"{FAILURES}::test_who_lost_a_peer_is_not_the_first_even_when_earlier",
    ),
    Mutation(
        "a run makes more attempts than allowed",
        "slurm/job/decisions.py",
        "if attempts >= allowed + _uncounted_attempts(events):",
        "if False:",
        f"{DECISIONS}::test_a_start_goes_on_only_where_it_is_needed",
    ),
    Mutation(
        "a completed run starts again",
        "slurm/job/decisions.py",
        "    if state.ended:\n        return Decision(Begin.NOT_NEEDED",
        "    if False:\n        return Decision(Begin.NOT_NEEDED",
        f"{DECISIONS}::test_a_start_goes_on_only_where_it_is_needed",
    ),
    Mutation(
        "the end of another job is taken for that of this job",
        "slurm/job/decisions.py",
        "if match[1] == job]",
        "]",
        f"{DECISIONS}::test_why_slurm_takes_the_nodes_away",
    ),
    Mutation(
        "a checkpointed job is not requeued",
        "configs/errors.py",
        "REQUEUE = 85",
        "REQUEUE = 86",
        "tests/configs/test_exit_statuses.py::test_the_exit_statuses_are_those_that_scripts_rely_on",
    ),
    Mutation(
        "a lack of the environment looks like a wrong request",
        "configs/errors.py",
        "    exit_code = ExitCode.ENVIRONMENT",
        "    exit_code = ExitCode.BAD_REQUEST",
        "tests/configs/test_exit_statuses.py::test_each_error_carries_its_status",
    ),
)
