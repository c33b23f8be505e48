"""Mutations of supervision: floods, clocks, orphans, dead supervisors, the gate before gRPC, the terminal."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

GATE, FLOODS, TERMINAL = (f"tests/security/test_{name}.py" for name in ("port_gate", "floods", "terminal"))
CLOCKS, KEEPER = "tests/launcher/supervision/test_clock_skew.py", "tests/launcher/rank/test_keeper.py"
DEAD = "tests/jobs/test_dead_supervisor.py"

MUTATIONS = (
    Mutation(
        "the gate before TensorFlow's gRPC lets every address pass",
        "runs/tf_cluster/port_gate.py",
        "_GATE, _SERVER = 0, 1",
        "_GATE, _SERVER = 1, 1",
        f"{GATE}::test_the_nodes_of_the_run_pass_and_nobody_else",
    ),
    Mutation(
        "an IPv6 address passes the gate by a part of it",
        "runs/tf_cluster/port_gate.py",
        "left = 2 * (len(words) - index - 1) + 1",
        "left = 2 * (len(words) - index - 1)",
        f"{GATE}::test_the_nodes_of_the_run_pass_and_nobody_else",
    ),
    Mutation(
        "multi_worker is submitted to shared nodes",
        "slurm/submission/resource_request.py",
        'if cluster.network.shared_nodes == "refuse" and exposes_ports(cluster, partition, request, spec):',
        "if False:",
        "tests/security/test_shared_nodes.py::test_multi_worker_on_a_part_of_a_node_is_refused_before_anything_starts",
    ),
    Mutation(
        "lines for a terminal that stands still pile up without a limit",
        "launcher/supervision/background_view.py",
        "                self._drop_oldest_line()",
        "                pass",
        f"{FLOODS}::test_a_terminal_that_stands_still_delays_no_call",
    ),
    Mutation(
        "the end of a run waits for the terminal",
        "launcher/supervision/background_view.py",
        "(left := deadline - time.monotonic()) > 0",
        "(left := 60.0) > 0",
        f"{FLOODS}::test_the_end_does_not_wait_for_a_terminal_that_stands_still",
    ),
    Mutation(
        "a log is never rotated",
        "launcher/rank/log_rotation.py",
        "if log.stat().st_size <= limit_bytes // 2:",
        "if True:",
        "tests/launcher/rank/test_log_rotation.py::test_a_log_is_rotated_under_the_program_that_writes_it",
    ),
    Mutation(
        "the supervisor compares its clock with those of nodes",
        "launcher/supervision/supervisor.py",
        "find_stall(beats, self.watching.stall_seconds, now)",
        "find_stall(self.watch.beats(), self.watching.stall_seconds, time.time())",
        f"{CLOCKS}::test_the_supervisor_believes_its_own_clock_only",
    ),
    Mutation(
        "a sign of life counts as progress",
        "runs/ranks/heartbeats.py",
        "return beat.phase, beat.epoch, beat.step, beat.pid, beat.time",
        "return beat.phase, beat.epoch, beat.step, beat.pid, beat.time, beat.alive",
        f"{CLOCKS}::test_a_stall_is_seen_whatever_the_clocks_say",
    ),
    Mutation(
        "a run that is held counts as dead",
        "launcher/supervision/run_lock.py",
        "start.host != socket.gethostname() or is_supervised(run):",
        "start.host != socket.gethostname():",
        f"{DEAD}::test_a_run_that_is_held_is_running_whatever_its_recorded_process",
    ),
    Mutation(
        "a run on another node counts as dead",
        "launcher/supervision/run_lock.py",
        "start.pid is None or start.host != socket.gethostname()",
        "start.pid is None",
        f"{DEAD}::test_a_run_whose_supervisor_lives_or_cannot_be_seen_is_running[another-node]",
    ),
    Mutation(
        "nobody adopts the daemons of a killed wrapper",
        "launcher/rank/keeper.py",
        "    parent_death.adopt_orphans()\n",
        "",
        f"{KEEPER}::test_a_daemon_without_marks_does_not_outlive_a_killed_wrapper[wrapper]",
    ),
    Mutation(
        "an orphaned rank gets the grace of a request",
        "launcher/rank/wrapper.py",
        "signal.SIGKILL if orphaned else number",
        "signal.SIGTERM if orphaned else number",
        f"{KEEPER}::test_an_orphaned_rank_that_ignores_sigterm_is_killed_without_the_grace_of_a_request",
    ),
    Mutation(
        "the terminal obeys what ranks print",
        "cli/runs/view.py",
        "Text.from_ansi(clean_text(text))",
        "Text.from_ansi(text)",
        f"{TERMINAL}::test_the_live_line_moves_and_what_ranks_say_above_it_does_not",
    ),
    Mutation(
        "the terminal obeys what messages hold",
        "cli/main.py",
        "with clean_streams():",
        "if True:",
        f"{TERMINAL}::test_logs_status_and_refusals_reach_a_real_terminal_clean",
    ),
)
