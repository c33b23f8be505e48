"""Mutations of the confinement of candidate models, and of leases."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

MODEL, FILTER = "tests/security/test_confined_model.py", "tests/runs/confinement/test_confinement.py"
LEASES = "tests/runs/test_leases.py"

MUTATIONS = (
    Mutation(
        "a candidate model may open sockets",
        "runs/confinement/confined.py",
        "attempt(Means.NETWORK, kernel.refuse_system_calls)",
        "attempt(Means.NETWORK, lambda: None)",
        f"{MODEL}::test_no_connection_leaves_the_process",
    ),
    Mutation(
        "a candidate model may write any file",
        "runs/confinement/confined.py",
        "attempt(Means.FILES, lambda: kernel.write_only_to(self.writable))",
        "attempt(Means.FILES, lambda: None)",
        f"{MODEL}::test_no_file_changes_but_the_output",
    ),
    Mutation(
        "the memory of a candidate model has no limit",
        "runs/confinement/confined.py",
        "_limit(resource.RLIMIT_DATA, self.memory_bytes)",
        "None",
        f"{MODEL}::test_memory_is_limited",
    ),
    Mutation(
        "a candidate model gets the user's secrets",
        "runs/confinement/confined.py",
        "for name, value in environ.items() if not is_secret(name)}",
        "for name, value in environ.items()}",
        f"{FILTER}::test_variables_with_secret_names_are_left_out",
    ),
    Mutation(
        "what a machine cannot confine is not said",
        "runs/confinement/confined.py",
        '        return dict.fromkeys(Means, "the confinement did not begin")',
        "        return {}",
        f"{FILTER}::test_a_report_is_read_back_and_a_missing_report_means_no_confinement",
    ),
    Mutation(
        "x32 is a second way to every refused call",
        "runs/confinement/kernel.py",
        "(_AT_LEAST, rest, 0, _X32)",
        "(_AT_LEAST, 0, 0, _X32)",
        f"{FILTER}::test_the_filter_refuses_every_named_call_and_allows_the_others",
    ),
    Mutation(
        "an unknown processor is not confined",
        "runs/confinement/kernel.py",
        '        raise OSError(f"the system calls of {platform.machine()} are not known")',
        "        return",
        f"{FILTER}::test_an_unknown_processor_is_an_error_and_not_an_open_door",
    ),
    Mutation(
        "a process id that is used again keeps a lease",
        "runs/files/leases.py",
        "self.host == socket.gethostname() and _started(self.pid) != self.started",
        "self.host == socket.gethostname() and _started(self.pid) is None",
        f"{LEASES}::test_a_process_id_that_is_used_again_holds_nothing",
    ),
)
