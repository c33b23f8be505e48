"""Extra options of sbatch: what contradicts saman, prints, or needs root is refused with its reason."""

from __future__ import annotations

import pytest

from saman.configs.site.sbatch_options import (
    KNOWN_OPTIONS,
    REFUSED_OPTIONS,
    check_line,
    doubtful_options,
    nearest_option,
)


@pytest.mark.parametrize(
    "line", ["--mail-type=END,FAIL", "--nice", "--nice=10", "--contiguous", "--hint=nomultithread"]
)
def test_an_option_that_changes_nothing_of_saman_s_is_taken(line: str) -> None:
    assert check_line(line) == line


def test_an_option_of_a_plugin_is_left_to_the_installed_sbatch() -> None:
    assert check_line("--container-image=nvcr.io#nvidia/tensorflow") and check_line("--qoss=x")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--parsable", "saman passes it already"),
        ("--uid=0", "only root"),
        ("--clusters=other", "another cluster"),
        ("--bb=capacity=1G", "burst_buffer"),
        ("--export=NONE", "from export"),
        ("--exclusive=user", "from exclusive"),
        ("--mail-type", "needs a value"),
        ("--contiguous=4", "takes no value"),
        ("--tim=5", "whole name: --time"),
        ("--mail=END", "--mail-type or --mail-user"),
        ("-p gpu", "not an option of sbatch"),
    ],
)
def test_an_option_that_no_job_can_have_is_refused_with_the_reason(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match="sbatch|saman|--") as refused:
        check_line(line)
    assert reason in str(refused.value)


@pytest.mark.parametrize("name", sorted(REFUSED_OPTIONS))
def test_every_refusal_has_a_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"--{name} is refused: .{{20}}"):
        check_line(f"--{name}=x")


def test_the_nearest_name_is_an_option_that_a_cluster_file_may_have() -> None:
    assert nearest_option("mail-typ") == "--mail-type"
    assert nearest_option("container-imag", ["container-image"]) == "--container-image"
    assert nearest_option("parsabel") is None
    assert nearest_option("zzzz") is None
    assert {"time", "uid", "mail-type"} <= KNOWN_OPTIONS


def test_where_no_sbatch_can_be_asked_an_option_that_no_release_has_is_named() -> None:
    assert doubtful_options(["--mail-type=END", "--mial-type=END", "--zzzz"]) == [
        "--mial-type is no option of Slurm itself; did you mean --mail-type?",
        "--zzzz is no option of Slurm itself",
    ]
