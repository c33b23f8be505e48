"""Host lists mean here what they mean to Slurm."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saman.configs.errors import UserError
from saman.launcher.plan.hostlist import expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("login", ["login"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("rack1-node[01-02]-ib", ["rack1-node01-ib", "rack1-node02-ib"]),
        ("n[08-11],m3", ["n08", "n09", "n10", "n11", "m3"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("a[1,3-4]b,c", ["a1b", "a3b", "a4b", "c"]),
        ("gpu[001-002,010]", ["gpu001", "gpu002", "gpu010"]),
    ],
)
def test_a_list_names_its_hosts_in_order(text: str, names: list[str]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize(
    "text", ["n[1", "n]1", "n[2-1]", "n[a-b]", "a,,b", "a b", "n[[1]]", "n[1-99999999999]", "n[]", ","]
)
def test_what_slurm_would_not_write_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="host list"):
        expand(text)


_label = st.from_regex(r"[a-z][a-z-]{0,5}", fullmatch=True)
_width = st.integers(1, 3)


@st.composite
def _range(draw: st.DrawFn) -> str:
    width = draw(_width)
    first = draw(st.integers(0, 10**width - 1))
    last = first + draw(st.integers(0, 12))
    return str(first).zfill(width) if last == first else f"{str(first).zfill(width)}-{str(last).zfill(width)}"


@st.composite
def _host(draw: st.DrawFn) -> str:
    """One entry; a bracket is always last, because Slurm 22.05 refuses text behind it (newer versions do not)."""
    text = draw(_label)
    for _ in range(draw(st.integers(0, 2))):
        text += draw(_label) + "[" + ",".join(draw(st.lists(_range(), min_size=1, max_size=3))) + "]"
    return text


@pytest.mark.slurm
@pytest.mark.usefixtures("minicluster")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_host(), min_size=1, max_size=3).map(",".join))
def test_every_list_expands_as_scontrol_does(text: str) -> None:
    said = subprocess.run(["scontrol", "show", "hostnames", text], capture_output=True, text=True, check=True)
    assert expand(text) == said.stdout.split()
