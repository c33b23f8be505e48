"""Mutations of the models folder: names, digests, the audit log, gates, approvals, signatures."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

HOSTILE, FILES = "tests/security/test_hostile_models_folder.py", "tests/security/test_hostile_files.py"
VERIFY, REFUSALS = "tests/registry/lifecycle/test_verify.py", "tests/registry/lifecycle/test_publish_refusals.py"
APPENDS, GATES = "tests/registry/store/test_audit_log_appends.py", "tests/registry/evaluation/test_gates.py"
CHANGES = "tests/registry/lifecycle/test_changes.py"
CACHE = "tests/security/test_shared_cache.py"
POWER = "tests/registry/lifecycle/test_power_loss_registry.py"
FORGED = f"{HOSTILE}::test_a_forged_entry_moves_nothing_and_is_damage"

MUTATIONS = (
    Mutation(
        "a model's name leads out of the folder",
        "registry/store/layout.py",
        "    if not is_name(name):\n        allowed",
        "    if False:\n        allowed",
        f"{REFUSALS}::test_a_name_that_leads_out_of_the_folder_is_refused",
    ),
    Mutation(
        "a model's folder may be a link",
        "registry/store/layout.py",
        "        if path.is_symlink():\n            problem",
        "        if False:\n            problem",
        f"{REFUSALS}::test_symbolic_links_are_refused",
    ),
    Mutation(
        "a manifest names files outside its version",
        "registry/store/layout.py",
        'or ".." in path.parts or "\\\\" in text',
        'or "\\\\" in text',
        f"{FILES}::test_a_path_in_a_manifest_stays_in_its_version",
    ),
    Mutation(
        "a log entry names a folder elsewhere",
        "registry/store/audit_entry.py",
        "    return isinstance(value, str) and is_name(value)",
        "    return isinstance(value, str)",
        FORGED,
    ),
    Mutation(
        "an export holds links",
        "runs/files/disk.py",
        "        elif not stat.S_ISDIR(mode):",
        "        elif False:",
        f"{REFUSALS}::test_symbolic_links_are_refused",
    ),
    Mutation(
        "a changed file passes verification",
        "registry/lifecycle/damage.py",
        "if disk.digest_file(file).sha256 == record.sha256:",
        "if True:",
        f"{VERIFY}::test_damage_is_found_and_named",
    ),
    Mutation(
        "an added file passes verification",
        "registry/lifecycle/damage.py",
        "if name not in known and not stat",
        "if False and not stat",
        f"{VERIFY}::test_an_added_file_is_found",
    ),
    Mutation(
        "an edited log entry passes verification",
        "registry/store/tampering.py",
        'if parse_json(text).get("digest") != entry.digest() or entry.number != number:',
        "if entry.number != number:",
        f"{APPENDS}::test_the_entry_that_was_edited_is_the_one_that_is_named",
    ),
    Mutation(
        "a replaced log entry passes verification",
        "registry/store/tampering.py",
        "if expected and entry.previous != expected:",
        "if False:",
        f"{VERIFY}::test_an_entry_edited_together_with_its_digest_is_noticed",
    ),
    Mutation(
        "a shortened log passes verification",
        "registry/store/tampering.py",
        "    if last not in numbers:",
        "    if False:",
        f"{VERIFY}::test_a_shortened_log_is_noticed_and_nothing_is_built_on_it",
    ),
    Mutation(
        "an entry overwrites another's",
        "registry/store/audit_log.py",
        "        target.hardlink_to(temporary)",
        "        temporary.replace(target)",
        f"{APPENDS}::test_an_entry_is_never_overwritten_by_who_decided_on_an_older_log",
    ),
    Mutation(
        "an entry gets its number before it is on disk",
        "registry/store/audit_log.py",
        "        disk.sync_path(temporary)\n",
        "",
        f"{APPENDS}::test_an_entry_is_on_disk_before_its_number_and_the_number_before_the_end",
    ),
    Mutation(
        "the number of an entry is not on disk at the end",
        "registry/store/audit_log.py",
        "    disk.sync_path(folder)\n",
        "",
        f"{APPENDS}::test_an_entry_is_on_disk_before_its_number_and_the_number_before_the_end",
    ),
    Mutation(
        "everybody may approve",
        "registry/lifecycle/approval.py",
        "if policy and policy.by is not None and by not in policy.by:",
        "if False:",
        f"{CHANGES}::test_approvals_are_recorded_once_and_by_those_who_may",
    ),
    Mutation(
        "approvals outside the allow-list count",
        "registry/evaluation/gates.py",
        "[name for name in names if policy.approvals.by is None or name in policy.approvals.by]",
        "names",
        f"{HOSTILE}::test_an_approval_outside_the_allow_list_does_not_count_even_from_the_log",
    ),
    Mutation(
        "fewer approvals than demanded suffice",
        "registry/evaluation/gates.py",
        "GateOutcome.of(len(allowed) >= least)",
        "GateOutcome.PASSED",
        f"{GATES}::test_a_stable_version_needs_the_approvals_that_the_policy_asks_for",
    ),
    Mutation(
        "a gate that measured nothing passes",
        "registry/evaluation/gates.py",
        "if result.outcome is not GateOutcome.PASSED",
        "if result.outcome is GateOutcome.REFUSED",
        f"{GATES}::test_a_gate_that_cannot_measure_a_version_refuses_it",
    ),
    Mutation(
        "a damaged version becomes stable",
        "registry/lifecycle/promotion.py",
        "    require_sound(folder, number)\n",
        "",
        f"{VERIFY}::test_damage_is_found_and_named",
    ),
    Mutation(
        "a public key inside the models folder is believed",
        "registry/store/signing.py",
        "if key.resolve().is_relative_to(folder.models_dir.resolve()):",
        "if False:",
        f"{HOSTILE}::test_a_key_inside_the_models_folder_is_refused",
    ),
    Mutation(
        "a public key is believed through a link into the models folder",
        "registry/store/signing.py",
        "key.resolve().is_relative_to(",
        "key.is_relative_to(",
        f"{HOSTILE}::test_a_link_to_a_key_inside_the_models_folder_is_refused",
    ),
    Mutation(
        "a public key that others write is believed",
        "registry/store/signing.py",
        "if key.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):",
        "if False:",
        f"{HOSTILE}::test_a_key_that_others_may_write_is_refused",
    ),
    Mutation(
        "a signed version verifies in the place of another",
        "registry/store/signing.py",
        "if problem := _key_problem(folder, key) or _identity_problem(folder, number):",
        "if problem := _key_problem(folder, key):",
        "tests/registry/store/test_signature_identity.py::test_a_signed_version_in_the_place_of_another_does_not_fit",
    ),
    Mutation(
        "a step of the log leads through a link out of the model",
        "registry/store/layout.py",
        "    if not inside or link is not None:",
        "    if not inside:",
        f"{HOSTILE}::test_a_symbolic_link_in_a_model_leads_nowhere",
    ),
    Mutation(
        "the registry acknowledges what a power loss takes back",
        "registry/store/audit_log.py",
        "    disk.sync_path(folder)\n",
        "",
        f"{POWER}::test_after_any_power_loss_the_registry_completes_what_it_had_acknowledged",
    ),
    Mutation(
        "a missing signature suffices",
        "registry/store/signing.py",
        'return "the policy asks for a signature, but there is none" if policy.signature == "required" else ""',
        'return ""',
        f"{HOSTILE}::test_batch_inference_refuses_an_unsigned_version_where_the_policy_requires_a_signature",
    ),
    Mutation(
        "batch inference loads a damaged version",
        "jobs/inference.py",
        "    require_sound(version.folder, version.number)\n",
        "",
        f"{HOSTILE}::test_batch_inference_refuses_a_damaged_version",
    ),
    Mutation(
        "cached code of other users is installed",
        "runs/caches.py",
        "        if doubt is not None:",
        "        if False:",
        f"{CACHE}::test_a_wheel_that_everyone_may_write_is_refused",
    ),
    Mutation(
        "a record of the cache names a wheel elsewhere",
        "launcher/setup/wheel_cache.py",
        'folder / Path(record["wheel"]).name',
        'folder / record["wheel"]',
        f"{CACHE}::test_a_record_cannot_name_a_wheel_elsewhere",
    ),
    Mutation(
        "converters are installed without their digests",
        "registry/evaluation/converter_packages.py",
        '"--require-hashes", "-r", str(wanted.lock)]',
        '*wanted.listed().split(", ")]',
        "tests/security/test_converter_locks.py::test_an_archive_with_another_digest_is_not_installed",
    ),
    Mutation(
        "Horovod's archive runs before its digest is checked",
        "launcher/setup/horovod_source.py",
        '"--require-hashes", "-r", str(wanted)], log',
        'f"horovod=={HOROVOD_VERSION}"], log',
        "tests/security/test_horovod_archive.py::test_the_archive_of_another_digest_is_refused_before_any_of_its_code_runs",
    ),
    Mutation(
        "any download counts as Horovod's release",
        "launcher/setup/horovod_source.py",
        "        if digest != HOROVOD_SHA256:",
        "        if False:",
        "tests/launcher/setup/test_setup_done.py::test_a_download_that_is_not_the_release_is_refused",
    ),
    Mutation(
        "a damaged wheel of the cache is installed",
        "launcher/setup/wheel_cache.py",
        'return wheel if file_sha256(wheel) == record["sha256"] else None',
        "return wheel",
        "tests/launcher/setup/test_setup_done.py::test_a_kept_wheel_is_found_and_a_damaged_one_is_not",
    ),
)
