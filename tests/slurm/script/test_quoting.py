"""Quoting for bash and for sbatch's own parser, value by value."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.slurm.script.quoting import ShellText, comment, extra_option, path_option, shell
from saman.slurm.script.templates import _only_quoted


def test_a_path_for_sbatch_has_its_patterns_doubled_and_its_quotes_escaped() -> None:
    assert path_option("output", Path('/runs/100%/a "b"'), "/%j.out") == '--output="/runs/100%%/a \\"b\\"/%j.out"'


@pytest.mark.parametrize("text", ["/runs/a\\b", "/runs/a\nb", "/runs/a\rb", "/runs/a\x7fb", "/runs/a\tb"])
def test_a_path_that_sbatch_would_read_differently_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="does not accept"):
        path_option("output", Path(text))


@pytest.mark.parametrize("text", ["$(id)", "`id`", "a b", "a'b", 'a"b', "a;b", "a&b", "*", "~", "$HOME", "", "\n"])
def test_every_value_is_a_single_literal_word_of_bash(text: str) -> None:
    assert shlex.split(shell(text)) == [text]


def test_what_no_word_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match="NUL"):
        shell("a\0b")


def test_a_comment_stays_on_its_line() -> None:
    assert "\n" not in comment("title\nrm -rf ~") and "\r" not in comment("title\rrm")


def test_a_value_of_an_extra_line_is_a_single_word() -> None:
    assert extra_option("--comment=a b") == '--comment="a b"'


@pytest.mark.parametrize("value", ["text", Path("/x"), None, 1.5])
def test_the_template_takes_no_unquoted_value(value: object) -> None:
    with pytest.raises(TypeError, match="unquoted"):
        _only_quoted(value)
    assert _only_quoted(ShellText("x")) == "x" and _only_quoted(3) == 3
