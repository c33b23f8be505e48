"""Words that no command can use end in a message of a few lines and exit status 2, and leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Saman

NO_SUCH = "~no-such-user/x.yaml"
LONG = "x" * 300 + ".yaml"


@pytest.mark.parametrize(
    "line",
    [
        ["run", NO_SUCH],
        ["run", LONG],
        ["run", ""],
        ["submit", NO_SUCH, "--cluster", "minicluster"],
        ["submit", LONG, "--cluster", "minicluster"],
        ["submit", "quickstart", "--cluster", NO_SUCH],
        ["submit", "quickstart", "--cluster", "minicluster", "--after", ""],
        ["submit", "quickstart", "--cluster", "minicluster", "--after", "٣"],
        ["shell", NO_SUCH, "--cluster", "lab-server"],
        ["notebook", "--cluster", NO_SUCH],
        ["fetch", ""],
        ["fetch", NO_SUCH],
        ["status", ""],
        ["status", "--newest", "-1"],
        ["logs", ""],
        ["logs", "last", "--rank", "-1"],
        ["wait", ""],
        ["cancel", ""],
        ["resume", ""],
        ["watch", ""],
        ["watch", NO_SUCH],
        ["autotune"],
        ["autotune", ""],
        ["tune", ""],
        ["tune", "digits", "--partition", "x"],
        ["tune", "digits", "--exclude", "n1"],
        ["study", "demo", "--partition", "x"],
        ["serve", ""],
        ["serve", "../x"],
        ["rollout", "start", "../x:1"],
        ["rollout", "status", "a\nb"],
        ["predict", NO_SUCH, "--ranks", "2"],
        ["prune", ""],
        ["prune", "*"],
        ["prune", "--usage", "x"],
        ["prune", "--runs-dir", "/etc/passwd"],
        ["prune", "--runs-dir", NO_SUCH],
        ["study", NO_SUCH],
        ["report", NO_SUCH],
        ["clusters", "check", NO_SUCH],
        ["models", "publish", ""],
    ],
    ids=" ".join,
)
def test_it_is_refused_in_a_few_lines_and_leaves_nothing(saman: Saman, tmp_path: Path, line: list[str]) -> None:
    answer = saman(*line)
    assert answer.status == 2 and answer.out == "" and "Traceback" not in answer.err
    assert answer.err.startswith(("error: ", "Usage: ")) and len(answer.err.splitlines()) < 8
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "flow.yaml: there are no keys"),
        ("name: flow\nsteps: {}", "steps: is empty"),
        ("name: flow\nsteps: {a: {program: []}}", "steps.a.program: is empty"),
        ("name: flow\nsteps: {a: {experiment: quickstart, ranks: 0}}", "steps.a.ranks: 0 is not greater than 0"),
        ("name: flow\nsteps: {a: null}", "steps.a: None is not a mapping"),
        ("name: last\nsteps: {a: {program: [sh]}}", "last means the newest run"),
        ("name: ../x\nsteps: {a: {program: [sh]}}", "is not a name"),
        ("name: flow\nsteps: {a: {program: [sh], after: a}}", "in a circle"),
        ("name: flow\nsteps:\n\t- a", ":3:1:"),
    ],
)
def test_a_mistake_in_a_workflow_is_named_by_its_key(saman: Saman, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "flow.yaml").write_text(text)
    answer = saman("submit", "flow.yaml", "--cluster", "minicluster", "--dry-run")
    assert (answer.status, answer.out) == (2, "") and said in answer.err, answer.err
    assert "validation" not in answer.err and [path.name for path in tmp_path.iterdir()] == ["flow.yaml"]
