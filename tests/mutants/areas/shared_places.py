"""Mutations of what reads and removes in places that others write to: shared runs, clusters over ssh, data files."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

PRUNE, REMOTE = "tests/jobs/prune/test_prune.py", "tests/runs/remote/test_remote_runs.py"
WORKFLOW, DATA = "tests/runs/workflows/test_workflow_record.py", "tests/security/test_hostile_data.py"
DAMAGED = "tests/security/test_damaged_run.py"

MUTATIONS = (
    Mutation(
        "prune follows a folder that was exchanged for a link",
        "jobs/prune/removal.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        f"{PRUNE}::test_a_folder_that_is_exchanged_for_a_link_is_not_followed",
    ),
    Mutation(
        "prune deletes whatever lies in the folder that SAMAN_CACHE_DIR names",
        "jobs/prune/beside.py",
        "for part in PARTS for",
        'for part in (*PARTS, "documents") for',
        f"{PRUNE}::test_only_known_parts_of_a_cache_folder_go",
    ),
    Mutation(
        "a login node takes over a run of this machine",
        "runs/remote/remote_runs.py",
        "if known is not None else not remote.run.path.exists():",
        "if known is not None else True:",
        f"{REMOTE}::test_a_cluster_cannot_take_a_run_of_this_machine_or_of_another_project",
    ),
    Mutation(
        "the record of another user stops every command",
        "runs/remote/remote_runs.py",
        "(remote := _readable(run)) is not None]",
        "(remote := RemoteRun.read(run)) is not None]",
        f"{REMOTE}::test_the_record_of_another_user_stops_no_command_but_those_that_name_its_run",
    ),
    Mutation(
        "a record of a workflow names runs anywhere",
        "runs/workflows/record.py",
        "if is_run_name(text))",
        "if text)",
        f"{WORKFLOW}::test_a_record_names_no_run_outside_its_folder_of_runs",
    ),
    Mutation(
        "the name of an array in an archive is a path",
        "trainers/data/readers/archives.py",
        'return f"array-{number}"',
        'return "../../evil" if number == 0 else f"array-{number}"',
        f"{DATA}::test_the_name_of_an_array_is_no_path",
    ),
    Mutation(
        "an archive fills the disk",
        "trainers/data/readers/archives.py",
        "    if size > free:",
        "    if False:",
        f"{DATA}::test_an_archive_that_is_larger_than_the_disk_is_refused_before_it_is_unpacked",
    ),
    Mutation(
        "a forged report of a node exhausts its reader",
        "runs/files/slots.py",
        "_MOST_PAIRS = 7 ",
        "_MOST_PAIRS = 10 ",
        f"{DAMAGED}::test_a_forged_report_cannot_be_larger_than_any_node_needs",
    ),
)
