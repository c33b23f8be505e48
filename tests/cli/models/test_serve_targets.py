"""``saman serve --print`` renders the same command as a service, and starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.cli.main import main


@pytest.mark.parametrize("target", ["systemd", "kubernetes", "haproxy", "slurm"])
def test_a_service_gets_the_words_of_the_command(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "serve",
        "digits",
        "--insecure",
        "--port",
        "9000",
        "--print",
        target,
        "--models-dir",
        str(tmp_path / "a b"),
    ]
    with pytest.raises(SystemExit) as ended:
        main(words)
    text = capsys.readouterr().out
    assert ended.value.code == 0 and "--print" not in text
    assert "/v1/models/digits" in text or target == "systemd"
    assert "--insecure" in text or target == "haproxy"
    assert not list(tmp_path.iterdir())


def test_an_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "digits", "--print", "docker"])
    assert ended.value.code == 2 and "kubernetes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--server", "a:1"], "--print haproxy"),
        (["--server", "a:1", "--print", "systemd"], "--print haproxy"),
        (["--hours", "2"], "--slurm, or --print slurm"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(
    words: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", "digits", *words])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words[0] in said and remedy in said
