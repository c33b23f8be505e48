"""Every mutation of ``make mutants`` still fits the code, and its test still exists. The tests themselves run there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.mutants.__main__ import Verdict, verdict_of
from tests.mutants.catalogue import MUTATIONS
from tests.mutants.mutation import Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_the_code(mutation: Mutation) -> None:
    assert mutation.problems() == []


def test_there_are_enough_mutations_and_each_has_a_name_of_its_own() -> None:
    assert len(MUTATIONS) >= 40
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert all(mutation.old != mutation.new for mutation in MUTATIONS)


def test_what_no_longer_fits_is_said(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("a = 1\nb = a == 1\n")
    (tmp_path / "test_it.py").write_text("def test_one() -> None: ...\n")

    def problems(old: str, new: str, test: str = "test_it.py::test_one", file: str = "code.py") -> list[str]:
        return Mutation("name", file, old, new, test).problems(tmp_path)

    assert problems("a == 1", "True") == []
    assert "0 times" in problems("a == 2", "True")[0]
    assert "2 times" in problems("a", "b")[0]
    assert "no Python" in problems("a == 1", "(")[0]
    assert "no test" in problems("a == 1", "True", "test_it.py::test_two")[0]
    assert "does not exist" in problems("a == 1", "True", "other.py::test_one")[0]
    assert "does not exist" in problems("a == 1", "True", file="gone.py")[0]


@pytest.mark.parametrize(
    ("status", "last_line", "verdict"),
    [
        (1, "1 failed, 3 passed in 1s", Verdict.KILLED),
        (0, "4 passed in 1s", Verdict.SURVIVED),
        (0, "1 skipped in 1s", Verdict.SKIPPED),
        (0, "1 passed, 1 skipped in 1s", Verdict.SURVIVED),
        (2, "1 error in 1s", Verdict.BROKEN),
        (5, "no tests ran in 1s", Verdict.BROKEN),
    ],
)
def test_only_a_failing_test_kills(status: int, last_line: str, verdict: Verdict) -> None:
    assert verdict_of(status, last_line) is verdict
