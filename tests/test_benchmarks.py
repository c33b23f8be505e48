"""``make bench`` runs every benchmark there is."""

from __future__ import annotations

import runpy
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_every_benchmark_is_in_the_list_of_make_bench_or_said_to_be_too_long() -> None:
    listed = runpy.run_path(str(BENCHMARKS / "__main__.py"))
    there = {
        str(path.relative_to(BENCHMARKS))
        for path in BENCHMARKS.glob("*/*.py")
        if "__main__" in path.read_text() and path.name not in ("plain_script.py", "synthetic.py")
    }
    assert there <= {line.split()[0] for line in listed["PROGRAMS"]} | {*listed["LONG"]}


def test_the_documentation_names_every_benchmark() -> None:
    page = (BENCHMARKS.parent / "docs" / "performance.md").read_text()
    listed = runpy.run_path(str(BENCHMARKS / "__main__.py"))
    for program in (line.split()[0] for line in [*listed["PROGRAMS"], *listed["LONG"]]):
        assert f"benchmarks/{program}" in page or not (BENCHMARKS / program).exists(), program
