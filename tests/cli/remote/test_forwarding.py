"""What a typed command becomes on the other side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command

from saman.cli.remote.forwarding import given_words
from saman.cli.remote.submission import with_run_ids
from saman.runs.remote.remote_runs import RemoteProject, remember


def words_of(typed: list[str], leave_out: tuple[str, ...] = ()) -> list[str]:
    found: list[list[str]] = []
    app = typer.Typer()

    @app.command()
    def command(
        context: typer.Context,
        rest: Annotated[list[str] | None, typer.Argument()] = None,
        ranks: Annotated[int | None, typer.Option("-np", "--np")] = None,
        nodes: Annotated[int | None, typer.Option("--nodes", "-N")] = None,
        flag: Annotated[bool, typer.Option("--flag")] = False,
        several: Annotated[list[str] | None, typer.Option("--set")] = None,
    ) -> None:
        found.append(given_words(context, leave_out))

    get_command(app).main(typed, standalone_mode=False)
    return found[0]


def test_the_options_that_were_typed_go_along_and_no_defaults() -> None:
    typed: list[Any] = ["a.yaml", "-np", "8", "-N", "2", "--flag", "--set", "x=1", "--set", "--odd; $(x)"]
    assert words_of(typed) == ["--np=8", "--nodes=2", "--flag", "--set=x=1", "--set=--odd; $(x)"]
    assert words_of(["a.yaml"]) == []


def test_what_this_machine_deals_with_stays() -> None:
    assert words_of(["-np", "8", "--set", "x=1"], ("several",)) == ["--np=8"]


def test_a_run_is_named_there_by_its_id(tmp_path: Path) -> None:
    project = RemoteProject("site", "login", "saman", "/scratch/p-1")
    remember(project, ["train/20260101-000000-000-aaaaaa"], tmp_path)
    typed = ["--after=last", "--after-any=unknown", "--set=last"]
    expected = ["--after=20260101-000000-000-aaaaaa", "--after-any=unknown", "--set=last"]
    assert with_run_ids(typed, tmp_path) == expected
