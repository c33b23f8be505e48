"""A user's function sees its context and nothing else; its exception names function, arguments, place and rank."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.launcher.supervision.failures import find_failure
from saman.runs.events import Event
from saman.trainers import Context
from saman.trainers.failures import UserCodeError, describe_failure, failure_kind
from saman.trainers.user_code.blame import blamed
from saman.trainers.user_code.functions import call

CODE = """
def load(ctx, folder, password="x"):
    return inner(folder)

def inner(folder):
    raise FileNotFoundError(f"no {folder}")

def plain(size, ctx=None):
    return size, ctx

def without(size):
    return size
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "their_code.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("their_code", None)
    return importlib.import_module("their_code")


def raised(function: Callable[[], Any]) -> BaseException:
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def context(tmp_path: Path) -> Context:
    return Context(seed=3, epoch=0, rank=5, size=8, folder=tmp_path / "mine")


def test_a_function_gets_its_context_only_if_it_asks(module: Any, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    assert call("their_code:plain", "train.loss", {"size": 4}, ctx=ctx) == (4, ctx)
    assert call("their_code:without", "train.loss", {"size": 4}, ctx=ctx) == 4
    with pytest.raises(UserError, match=r"train.loss.args: .*plain.* cannot be called with \{'width': 4\}"):
        call("their_code:plain", "train.loss", {"width": 4}, ctx=ctx)


def test_a_context_logs_with_its_rank_and_has_a_folder_for_artefacts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context(tmp_path)
    assert not ctx.folder.exists()  # type: ignore[union-attr]
    (ctx.artefacts / "note.txt").write_text("kept")
    assert (tmp_path / "mine" / "note.txt").read_text() == "kept"
    ctx.logger.info("seen %d", 3)
    assert "rank 5 INFO seen 3" in capsys.readouterr().err
    seen = {name for name in dir(ctx) if not name.startswith("_")}
    assert seen == {"seed", "epoch", "rank", "size", "folder", "logger", "artefacts", "at_epoch"}


def test_an_exception_names_function_key_argument_place_and_rank(module: Any, tmp_path: Path) -> None:
    args = {"folder": "/birds", "password": "hunter2"}
    error = raised(lambda: call("their_code:load", "data.source", args, context(tmp_path)))
    found = blamed(error, {"data": {"source": "their_code:load"}}, [tmp_path], rank=5)
    assert isinstance(found, UserCodeError)
    text = str(found)
    assert text.startswith("their_code:load (data.source) failed on rank 5 at their_code.py:6: ")
    assert "FileNotFoundError: no /birds" in text and "folder='/birds'" in text and "hunter2" not in text
    assert failure_kind(found).value == "user_code" and describe_failure(found) == text


def test_an_exception_of_saman_itself_blames_nobody(tmp_path: Path) -> None:
    assert blamed(raised(lambda: [][0]), {}, [tmp_path], 0) is None
    assert blamed(UserError("no"), {}, [tmp_path], 0) is None
    library = Path(json.__file__).parents[1]  # a home folder may hold a Python
    assert blamed(raised(lambda: json.loads("{")), {}, [library], 0) is None


def test_the_text_of_an_error_inside_a_graph_names_the_function_too(tmp_path: Path) -> None:
    text = f"""{{{{function_node}}}} ValueError: bad pixel
Traceback (most recent call last):
  File "/x/site-packages/tensorflow/script_ops.py", line 9, in __call__
    ret = func(*args)
  File "{tmp_path}/their_code.py", line 12, in decode
    raise ValueError("bad pixel")
"""
    found = blamed(RuntimeError(text), {}, [tmp_path], 2)
    assert str(found).startswith("their_code:decode failed on rank 2 at their_code.py:12: ValueError: bad pixel")


def test_the_verdict_and_so_the_status_repeats_the_message(tmp_path: Path) -> None:
    message = "their_code:load (data.source) failed on rank 1 at their_code.py:6: KeyError: 'x'; called with a=1"
    facts = {"rank": 1, "node": "n1", "failure": "user_code", "message": message}
    failure = find_failure([Event(time=1.0, kind="rank_failed", who="rank 1", attempt=1, facts=facts)], {})
    assert failure is not None and failure.sentence() == f"rank 1 on n1 failed first: {message}"
