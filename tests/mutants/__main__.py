"""``make mutants``: applies each mutation to a copy of the tree, and runs the test that must notice it.

python -m tests.mutants [--json] [WORD ...]    only mutations whose name, file or test holds a word

Exit status: 0 no mutation survived, 1 a mutation survived, 2 a mutation or its test no longer fits the code. Tests that
do not run on this machine are counted apart: nothing is known of their mutations.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from tests.mutants.catalogue import MUTATIONS
from tests.mutants.mutation import ROOT, Mutation

TEST_SECONDS = 120


class Verdict(str, Enum):
    """What became of a mutation."""

    KILLED = "killed"
    SURVIVED = "SURVIVED"
    SKIPPED = "SKIPPED"  # the test does not run on this machine: nothing is known
    BROKEN = "BROKEN"  # the test could not be collected, or fails without the mutation


@dataclass(frozen=True)
class Trial:
    """A mutation, its verdict, and the seconds of its test."""

    mutation: Mutation
    verdict: Verdict
    seconds: float


def copy_tree(target: Path) -> None:
    """Copy the files that git knows, and new files that it does not ignore, as they are now."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


def run_tests(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in the copy; returns pytest's exit status and its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    # No bytecode: a mutation within the same second and of the same length would not be noticed.
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("SAMAN_REQUIRE", None)
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS * len(tests)
        )
    except subprocess.TimeoutExpired:
        return 1, "timeout"  # a test that hangs has noticed the mutation
    return done.returncode, done.stdout.strip()


def verdict_of(status: int, last_line: str) -> Verdict:
    """The verdict by pytest's exit status (0 passed, 1 failed, others: not run) and its last line."""
    if status == 0:
        return Verdict.SKIPPED if "skipped" in last_line and "passed" not in last_line else Verdict.SURVIVED
    return Verdict.KILLED if status == 1 else Verdict.BROKEN


def try_mutation(tree: Path, mutation: Mutation) -> Trial:
    """Apply a mutation to the copy, run its test, and undo it."""
    began, file = time.monotonic(), tree / mutation.file
    original = file.read_bytes()
    file.write_text(mutation.mutated(tree), "utf-8")
    try:
        status, output = run_tests(tree, [mutation.test])
    finally:
        file.write_bytes(original)
    return Trial(mutation, verdict_of(status, output.rpartition("\n")[2]), time.monotonic() - began)


def row(trial: Trial) -> str:
    """A line of the table."""
    where = f"{trial.mutation.file}: {trial.mutation.name}"
    return f"{trial.verdict.value:9}{trial.seconds:6.1f} s  {where}\n{'':19}{trial.mutation.test}"


def check_unmutated(tree: Path, mutations: Sequence[Mutation]) -> bool:
    """Whether every test passes without a mutation; prints what fails."""
    tests = sorted({mutation.test for mutation in mutations})
    status, output = run_tests(tree, tests)
    shown = output.rpartition("\n")[2] if status == 0 else output
    print(f"{len(tests)} tests without mutations: {shown}", flush=True)
    return status == 0


def main(arguments: Sequence[str]) -> int:
    """Try the chosen mutations and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    mutations = [
        each
        for each in MUTATIONS
        if not chosen.words or any(word in " ".join(asdict(each).values()) for word in chosen.words)
    ]
    stale = [f"{each.name}: {problem}" for each in mutations for problem in each.problems()]
    if stale:
        print("THESE MUTATIONS NO LONGER FIT THE CODE; mend tests/mutants:", *stale, sep="\n  ", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="saman-mutants-") as folder:
        copy_tree(Path(folder))
        if not check_unmutated(Path(folder), mutations):
            return 2
        trials = []
        for mutation in mutations:
            trials.append(try_mutation(Path(folder), mutation))
            print(row(trials[-1]), flush=True)
    if chosen.json:
        plain = [{**asdict(each.mutation), "verdict": each.verdict.value, "seconds": each.seconds} for each in trials]
        print(json.dumps(plain, indent=2))
    counts = Counter(each.verdict for each in trials)
    others = "".join(f", {count} {verdict.value}" for verdict, count in counts.items() if verdict is not Verdict.KILLED)
    seconds = sum(each.seconds for each in trials)
    print(f"{counts[Verdict.KILLED]} of {len(trials)} mutations killed{others} in {seconds:.0f} s")
    if counts[Verdict.BROKEN]:
        return 2
    return 1 if counts[Verdict.SURVIVED] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
