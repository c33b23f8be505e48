"""Every command explains itself: a sentence, its options, and examples that parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from saman.cli.main import make_app, split_program


def commands(group: Any, name: str = "saman") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    if hasattr(group, "commands"):
        for word, command in group.commands.items():
            yield from commands(command, f"{name} {word}")
    else:
        yield name, group


APP = typer.main.get_command(make_app())
COMMANDS = dict(commands(APP))


def examples(command: Any) -> list[str]:
    """The indented lines of a command's help that call saman."""
    return re.findall(r"^ {4,}(saman .*)$", command.help or "", flags=re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{name}: {parameter.name} has no help text"
        assert text.endswith("."), f"{name}: {parameter.name}: {text}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_examples_that_parse(name: str) -> None:
    shown = examples(COMMANDS[name])
    assert shown or "$(saman minicluster env)" in (COMMANDS[name].help or ""), f"{name} --help shows no example"
    for line in shown:
        words, program = split_program(shlex.split(re.split(r"\s>", line)[0])[1:])  # the shell takes the rest
        assert " ".join(["saman", *words]).startswith(name)
        context = APP.make_context("saman", list(words), obj=program)
        while hasattr(context.command, "commands"):
            word, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
            assert command is not None
            context = command.make_context(word, rest, parent=context)


def test_an_example_with_an_unknown_option_would_be_found() -> None:
    with pytest.raises(Exception, match="--patience"):
        COMMANDS["saman wait"].make_context("wait", ["last", "--patience", "3"])
