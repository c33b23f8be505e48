"""The documentation is held against the program: every command shown exists, with every option shown."""

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from tests.test_floors import BELOW

from saman.cli.main import make_app, split_program
from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def shown(page, program):
    """Command lines of ``program`` in a page's code blocks, comments and prompts removed."""
    for _, block in BLOCK.findall(page.read_text()):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith(f"{program} "):
                yield shlex.split(line, comments=True)


SAMAN = [(page.name, words) for page in PAGES for words in shown(page, "saman")]
MAKE = [(page.name, words) for page in PAGES for words in shown(page, "make")]


@pytest.mark.parametrize(
    ("page", "words"), SAMAN, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_command_that_is_shown_exists_with_its_options(page, words):
    own, _ = split_program(words[1:])
    command = typer.main.get_command(make_app())
    while hasattr(command, "commands") and own and own[0] in command.commands:
        command = command.commands[own.pop(0)]
    assert not hasattr(command, "commands") or not own or own[0].startswith("-"), f"{page} shows no command of saman"
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"-h", "--help"}
    for word in own:
        if re.match(r"--?[a-z]", word):
            assert word.split("=")[0] in options, f"{page}: {' '.join(words)}"


@pytest.mark.parametrize(
    ("page", "words"), MAKE, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_make_target_that_is_shown_exists(page, words):
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M)
    assert words[1] in targets, page


def test_the_readme_shows_the_two_commands():
    assert {words[1] for page, words in MAKE if page == "README.md"} >= {"demo", "test"}
    assert SAMAN


def test_the_experiment_that_the_readme_shows_is_valid(tmp_path, monkeypatch):
    blocks = {kind: text for kind, text in BLOCK.findall((ROOT / "README.md").read_text()) if kind == "yaml"}
    (tmp_path / "fashion.yaml").write_text(blocks["yaml"])
    monkeypatch.chdir(tmp_path)
    assert load_experiment("fashion.yaml", ranks=4).experiment.resources.ranks == 4


def test_the_mistake_that_the_readme_shows_is_told_in_these_words(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    (tmp_path / "fashion.yaml").write_text(dict(BLOCK.findall(text))["yaml"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refusal:
        load_experiment("fashion.yaml", ["train.optimizer.momentun=0.9"])
    assert f"error: {refusal.value.where}: {refusal.value.problem}\n       {refusal.value.remedy}\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_design_shows_every_room_with_the_rooms_it_may_use():
    text = (ROOT / "docs" / "design.md").read_text()
    rows = dict(re.findall(r"^(\w+)/ .{20,}?  +(\S.*)$", text, re.M))
    everything = {"everything but trainers": set(BELOW) - {"cli", "trainers"}, "nothing": set()}
    assert {room: everything.get(uses) or set(uses.split(", ")) - {"nothing"} for room, uses in rows.items()} == BELOW


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_of_the_project_that_is_named_exists(page):
    named = re.findall(r"`((?:" + "|".join([*BELOW, "tests", "benchmarks"]) + r")/[\w/]+\.py)`", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_module_of_the_project_that_is_named_exists(page):
    named = re.findall(r"\b(?:saman\.)?((?:" + "|".join(BELOW) + r")(?:\.[a-z_]+)+)`", page.read_text())
    assert [name for name in named if not _is_module(name)] == []


def _is_module(name):
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()
