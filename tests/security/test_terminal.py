"""Nothing that a run, a file or another user wrote makes the terminal act."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from saman.cli.main import say_error
from saman.cli.terminal import clean_streams
from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.terminal_text import clean_text
from saman.runs.folder import RunFolder

HOSTILE = {
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "clipboard, 8-bit": "\x9d52;c;cm0gLXJmIH4=\x9c",
    "title": "\x1b]0;root@login\x07",
    "reset": "\x1bc",
    "answer-back": "\x05\x1b[c\x1b[6n",
    "device control": '\x1bP$q"p\x1b\\',
    "alternate screen": "\x1b[?1049h",
    "link": "\x1b]8;;http://example.org\x1b\\click\x1b]8;;\x1b\\",
    "upwards": "\x1b[5A\x1b[2K",
    "character set": "\x1b(0\x0e",
    "torn": "\x1b",
    "reordered": "safe\u202eexe.txt",
}
OBEYED = re.compile("\x1b(?!\\[[0-9;:]*m)|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_control_sequence_is_shown_and_not_obeyed(text: str) -> None:
    cleaned = clean_text(f"before {text} after")
    assert not OBEYED.search(cleaned)
    assert cleaned.startswith("before ") and cleaned.endswith(" after")
    assert len(cleaned) == len(f"before {text} after")  # shown, not dropped


def test_colours_and_progress_bars_stay() -> None:
    text = "\x1b[1;31mloss\x1b[0m\t0.1\r\b\b[===>]\n"
    assert clean_text(text) == text


@given(some.text(some.sampled_from("\x1b[]0;52cm?\x07\x9d\\Pa1 \n"), max_size=30))
def test_no_text_at_all_gets_through(text: str) -> None:
    assert not OBEYED.search(clean_text(text))
    assert clean_text(clean_text(text)) == clean_text(text)


def test_everything_that_the_command_prints_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    with clean_streams():
        print("".join(HOSTILE.values()))
        print(HOSTILE["title"], file=sys.stderr)
        say_error(UserError(HOSTILE["clipboard (OSC 52)"], where=HOSTILE["reset"], remedy=HOSTILE["title"]))
    printed = capsys.readouterr()
    assert not OBEYED.search(printed.out) and not OBEYED.search(printed.err)
    print(HOSTILE["reset"])
    assert capsys.readouterr().out == HOSTILE["reset"] + "\n"  # other programs that use saman print as they like


def test_the_live_line_moves_and_what_ranks_say_above_it_does_not() -> None:
    from rich.console import Console

    from saman.cli.runs.view import RunView

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=200)
    with RunView(console, "title") as view:
        view.line(0, "".join(HOSTILE.values()))
        view.say("".join(HOSTILE.values()))
    text = re.sub(r"\x1b\[(?:\?25[hl]|1A|2K)", "", file.getvalue())
    assert not OBEYED.search(text)


def _on_a_terminal(*words: str, folder: Path) -> str:
    """What a terminal gets from a saman command."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "saman", *words]
    with subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True) as process:
        os.close(theirs)
        got = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            got += data
        process.wait()
    os.close(ours)
    return got.decode(errors="replace")


def test_logs_status_and_refusals_reach_a_real_terminal_clean(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", load_experiment("quickstart", []).experiment)
    attempt = run.new_attempt()
    attempt.log(0).write_text("".join(f"{text}\n" for text in HOSTILE.values()))
    run.append("failed", "supervisor", 1, message="".join(HOSTILE.values()))
    refusal = _on_a_terminal("logs", HOSTILE["title"] + HOSTILE["reset"], folder=tmp_path)
    seen = [_on_a_terminal(*words, folder=tmp_path) for words in (("logs", "last"), ("status", "last"))]
    for text in (*seen, refusal):
        assert not OBEYED.search(text), text
    assert "52;c;" in seen[0]


def test_what_a_script_or_a_jobs_log_shows_of_a_run_is_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    from saman.api.progress import PrintedProgress

    PrintedProgress("a run").say(HOSTILE["reset"])
    assert not OBEYED.search(capsys.readouterr().err)
