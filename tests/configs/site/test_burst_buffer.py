"""Burst-buffer lines are templates with named fields; nothing else can be written into a job script through them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.site.burst_buffer import BurstBuffer

RUN = {"name": "mnist", "run": "/lustre/runs/mnist/1", "nodes": "4"}


def buffer(*lines: str, **fields: str) -> BurstBuffer:
    return validated(BurstBuffer, {"lines": list(lines), "fields": fields}, "x")


def test_fields_are_filled_in() -> None:
    lines = (
        "#DW jobdw type=scratch capacity={size} access_mode=striped",
        "#DW stage_out type=directory source=$DW_JOB_STRIPED/{name} destination={run}/staged",
        "#BB create_persistent name={name} capacity={size} access=striped type=scratch",
    )
    assert list(buffer(*lines, size="{nodes}TB".format(**RUN)).filled(RUN)) == [
        "#DW jobdw type=scratch capacity=4TB access_mode=striped",
        "#DW stage_out type=directory source=$DW_JOB_STRIPED/mnist destination=/lustre/runs/mnist/1/staged",
        "#BB create_persistent name=mnist capacity=4TB access=striped type=scratch",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "#SBATCH --uid=0", "#DW", "rm -rf /", "#DW jobdw\nrm x", "#DW jobdw x={a", "#DW jobdw x={{a}}",
        "#DW jobdw {0.x}", "#DW jobdw x=$(id)", "#DW jobdw x=`id`", "#DW jobdw x=$HOME",
        "#DW jobdw x={other}", "#DW jobdw x='y'",
    ],
)  # fmt: skip
def test_a_line_that_is_not_a_template_with_known_fields_is_refused(line: str) -> None:
    with pytest.raises(UserError):
        buffer(line)


@given(st.text(max_size=30))
def test_no_value_brings_a_blank_a_quote_or_a_line_break_into_a_line(value: str) -> None:
    line = "#DW jobdw capacity={size} destination={run}"
    try:
        [filled] = buffer(line, size=value).filled({**RUN, "run": value})
    except UserError:
        return
    assert filled.split() == ["#DW", "jobdw", f"capacity={value}", f"destination={value}"]
    assert not set(filled) & set("'\"\\`$;&|<>\n\r")
