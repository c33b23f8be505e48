"""Mutations of atomic and synced writes, digests, checkpoints and YAML."""

from __future__ import annotations

from tests.mutants.mutation import Mutation

WHOLE, CHECKPOINTS = "tests/runs/files/test_whole_writes.py", "tests/runs/checkpoints/test_checkpoints.py"
WRITER = "tests/runs/checkpoints/test_checkpoint_writer.py"
HOSTILE, YAML = "tests/security/test_hostile_files.py", "tests/configs/test_yaml12.py"

POWER = "tests/runs/test_power_loss.py"

MUTATIONS = (
    Mutation(
        "a file gets its name before it is on disk",
        "runs/files/whole.py",
        "            if not _TOGETHER.get():\n                os.fsync(file.fileno())\n",
        "",
        f"{WHOLE}::test_the_whole_content_is_on_disk_before_it_gets_its_name",
    ),
    Mutation(
        "a file is written in place",
        "runs/files/whole.py",
        "        temporary.replace(path)",
        "        path.write_bytes(data)\n        temporary.unlink()",
        f"{WHOLE}::test_the_whole_content_is_on_disk_before_it_gets_its_name",
    ),
    Mutation(
        "a failed write leaves its draft",
        "runs/files/whole.py",
        "            temporary.unlink()\n        raise",
        "            pass\n        raise",
        f"{WHOLE}::test_a_reader_never_sees_a_part",
    ),
    Mutation(
        "private files are readable",
        "runs/files/whole.py",
        "0o600 if private else 0o644",
        "0o644",
        f"{WHOLE}::test_only_the_owner_writes_and_a_private_file_is_private_from_the_start",
    ),
    Mutation(
        "a group may write whole files",
        "runs/files/whole.py",
        "0o600 if private else 0o644",
        "0o600 if private else 0o664",
        f"{WHOLE}::test_only_the_owner_writes_and_a_private_file_is_private_from_the_start",
    ),
    Mutation(
        "a line is glued to a torn line",
        "runs/files/whole.py",
        '        line = b"\\n" + line',
        "        pass",
        f"{WHOLE}::test_a_line_after_a_torn_one_is_whole",
    ),
    Mutation(
        "a short write counts as success",
        "runs/files/whole.py",
        "return os.write(descriptor, line) == len(line)",
        "return os.write(descriptor, line) > 0",
        f"{WHOLE}::test_a_short_write_is_no_success",
    ),
    Mutation(
        "special files are read",
        "configs/regular_files.py",
        "if not stat.S_ISREG(found.st_mode):",
        "if False:",
        "tests/security/test_planted_special_files.py::test_only_a_regular_file_is_read[FIFO]",
    ),
    Mutation(
        "a changed checkpoint is read",
        "runs/checkpoints/parts.py",
        "if digest.hexdigest() != part.sha256:",
        "if False:",
        f"{CHECKPOINTS}::test_each_kind_of_damage_is_found_and_the_one_before_is_taken",
    ),
    Mutation(
        "a power loss takes the parts of a checkpoint",
        "runs/checkpoints/hashed_file.py",
        "        os.fsync(self._file)",
        "        pass",
        f"{POWER}::test_after_any_power_loss_training_resumes_from_the_last_checkpoint_that_was_taken",
    ),
    Mutation(
        "a power loss takes the names of a checkpoint's files",
        "runs/checkpoints/store.py",
        "    _sync(place)",
        "    pass",
        f"{POWER}::test_after_any_power_loss_training_resumes_from_the_last_checkpoint_that_was_taken",
    ),
    Mutation(
        "a power loss takes a file that was written whole",
        "runs/files/whole.py",
        "            if not _TOGETHER.get():\n                os.fsync(file.fileno())\n",
        "",
        f"{POWER}::test_a_whole_file_holds_the_old_content_or_the_new_one_after_any_power_loss",
    ),
    Mutation(
        "an event may have any time",
        "runs/events.py",
        "    return type(value) in (int, float) and 0 <= value < 253_402_300_800",
        "    return True",
        "tests/security/test_damaged_run.py::test_an_event_without_a_time_is_no_event",
    ),
    Mutation(
        "a cell of a table is a formula",
        "scaling/report/writer.py",
        "without_formulas(frame).write_csv(csv)",
        "frame.write_csv(csv)",
        "tests/security/test_csv_cells.py::test_a_written_table_holds_no_formula",
    ),
    Mutation(
        "the reserve of a full disk is not used for the last event",
        "runs/folder.py",
        "write_with_reserve(self.reserve, lambda: append_line(self.events_file, event.to_json()))",
        "append_line(self.events_file, event.to_json())",
        "tests/security/test_full_disk.py::test_the_last_event_takes_the_reserve_of_a_full_disk",
    ),
    Mutation(
        "checkpoints may hold pickles",
        "runs/checkpoints/parts.py",
        "np.load(file, allow_pickle=False)",
        "np.load(file, allow_pickle=True)",
        f"{HOSTILE}::test_a_checkpoint_with_a_pickle_is_refused_although_its_digest_fits",
    ),
    Mutation(
        "a checkpoint is published before all its parts are there",
        "runs/checkpoints/store.py",
        "    return part_files.count_parts(draft(folder, step)) >= parts",
        "    return True",
        f"{WRITER}::test_a_checkpoint_is_visible_only_when_the_parts_of_all_processes_are_there",
    ),
    Mutation(
        "two checkpoints are pending",
        "runs/checkpoints/writer.py",
        "        self.finish()\n        arrays",
        "        arrays",
        f"{WRITER}::test_the_next_checkpoint_waits_for_the_pending_one_before_it_takes_its_snapshot",
    ),
    Mutation(
        "a checkpoint that could not be written is forgotten",
        "runs/checkpoints/writer.py",
        "            self.error = error",
        "            pass",
        f"{WRITER}::test_a_write_that_fails_ends_the_run_as_a_failing_write_always_did",
    ),
    Mutation(
        "a run ends before its checkpoint is on disk",
        "runs/checkpoints/writer.py",
        "            pending.join()\n            if pending.error",
        "            if pending.error",
        f"{WRITER}::test_the_training_goes_on_while_a_checkpoint_is_written",
    ),
    Mutation(
        "a checkpoint of another training is taken",
        "runs/checkpoints/store.py",
        "if different := facts.differences(now):",
        "if (different := facts.differences(now)) and False:",
        f"{CHECKPOINTS}::test_a_checkpoint_of_another_training_is_refused_by_name",
    ),
    Mutation(
        "YAML tags make objects",
        "configs/yaml12.py",
        "class _Loader(_Limited, yaml.SafeLoader):",
        "class _Loader(_Limited, yaml.UnsafeLoader):",
        f"{HOSTILE}::test_no_tag_of_yaml_makes_an_object",
    ),
    Mutation(
        "the last of two equal keys counts",
        "configs/yaml12.py",
        "        if key in result:",
        "        if False:",
        f"{YAML}::test_what_is_not_plain_yaml_is_refused_with_its_place",
    ),
    Mutation(
        "an alias bomb is expanded",
        "configs/yaml12.py",
        "    if values > MOST_VALUES:",
        "    if False:",
        f"{HOSTILE}::test_a_bomb_of_yaml_is_refused_in_time[aliases]",
    ),
    Mutation(
        "a name may hold any character",
        "configs/names.py",
        "    return _NAME.fullmatch(text) is not None",
        "    return _NAME.match(text) is not None",
        f"{HOSTILE}::test_a_name_is_a_harmless_part_of_a_path_or_refused",
    ),
    Mutation(
        "a name in a notebook becomes markup",
        "api/html.py",
        '{"" if value is None else escape(str(value))}',
        '{"" if value is None else str(value)}',
        f"{HOSTILE}::test_no_name_becomes_markup_in_a_notebook",
    ),
    Mutation(
        "a name in a report becomes markup",
        "scaling/report/writer.py",
        "autoescape=True",
        "autoescape=False",
        "tests/scaling/report/test_report.py::test_text_from_runs_cannot_become_part_of_the_page",
    ),
    Mutation(
        "data in a report end its script",
        "scaling/report/writer.py",
        '.replace("<", "\\\\u003c")',
        "",
        "tests/scaling/report/test_report.py::test_text_from_runs_cannot_become_part_of_the_page",
    ),
)
