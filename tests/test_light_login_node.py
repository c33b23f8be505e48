"""Holds the login node light: asking for help loads nothing heavy, and no room but the ranks' own loads TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

# pydantic is not among them: current typer loads it by itself when it reads an option.
HEAVY = {
    "altair", "horovod", "jinja2", "keras", "mpi4py", "numpy", "pandas", "polars", "scipy", "sklearn", "tensorflow",
    "tf_keras", "vl_convert", "yaml",
}  # fmt: skip
NOT_IN_THE_TESTED_SET = {"onnxruntime"}  # a library of its own for who serves ONNX
RANKS_ONLY = {"tensorflow", "keras", "tf_keras", "horovod", "mpi4py"}

_MODULES_AFTER = """
import json, sys
sys.argv = ["saman", *{arguments!r}]
try:
    from saman.cli.main import main
    main()
except SystemExit:
    pass
print("\\n" + json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""


def loaded_by(*arguments: str, cwd: Path) -> set[str]:
    """The top-level modules that a process holds after ``saman ARGUMENTS``."""
    program = _MODULES_AFTER.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["models", "--help"]])
def test_asking_for_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    loaded = loaded_by(*arguments, cwd=tmp_path)
    assert "typer" in loaded  # the question was asked of the right process
    assert sorted(loaded & HEAVY) == []


def test_the_list_of_commands_loads_no_schema(tmp_path: Path) -> None:
    loaded = loaded_by("--help", cwd=tmp_path)
    assert "typer" in loaded
    assert "pydantic" not in loaded


def test_the_list_of_commands_tells_of_each_what_its_own_help_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    from saman.cli.main import COMMANDS, app_for, make_app

    def told(app: typer.Typer) -> dict[str, str]:
        return {name: command.get_short_help_str(999) for name, command in get_command(app).commands.items()}  # type: ignore[attr-defined]

    assert list(told(app_for(["--help"]))) == list(COMMANDS)
    assert told(app_for(["--help"])) == told(make_app()) == told(app_for(["no-such-command"]))
    assert list(told(app_for(["models", "list"]))) == ["models"]
    monkeypatch.setenv("_SAMAN_COMPLETE", "complete_bash")
    assert told(app_for([])) == told(make_app())


def test_a_run_without_them_loads_no_server_and_no_client_of_slurm(tmp_path: Path) -> None:
    program = "import sys, saman.jobs.local, saman.slurm.job.interactive; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = set(done.stdout.split())
    assert "saman.launcher.attempts" in loaded
    assert sorted(loaded & {"http.server", "urllib.request", "ssl", "saman.slurm.site.client"}) == []


def test_a_report_loads_scipy_for_laws_and_predictions_alone(tmp_path: Path) -> None:
    program = "import sys, saman.scaling.report.pages, saman.scaling.track.keeping; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = set(done.stdout.split())
    assert "polars" in loaded
    assert "scipy.special" not in loaded


def test_a_dry_run_loads_no_tensorflow(tmp_path: Path) -> None:
    loaded = loaded_by("run", "quickstart", "--dry-run", cwd=tmp_path)
    assert "pydantic" in loaded
    assert sorted(loaded & RANKS_ONLY) == []


def test_every_room_but_the_ranks_own_imports_without_tensorflow(tmp_path: Path) -> None:
    program = (
        "import json, pkgutil, sys, importlib, saman\n"
        "rooms = [m.name for m in pkgutil.iter_modules(saman.__path__) if m.name not in ('trainers', '__main__')]\n"
        "for room in rooms:\n"
        "    package = importlib.import_module(f'saman.{room}')\n"
        "    for m in pkgutil.walk_packages(package.__path__, f'saman.{room}.'):\n"
        "        if m.name.endswith('__main__'): continue\n"
        "        try: importlib.import_module(m.name)\n"
        "        except ModuleNotFoundError as lack:\n"
        f"            if lack.name not in {NOT_IN_THE_TESTED_SET!r}: raise\n"
        "print(json.dumps([rooms, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    rooms, loaded = json.loads(done.stdout.splitlines()[-1])
    assert {"cli", "launcher", "slurm", "scaling", "registry"} <= set(rooms)
    assert sorted(RANKS_ONLY.intersection(loaded)) == []


def test_the_wrapper_of_every_rank_loads_no_schema(tmp_path: Path) -> None:
    program = "import sys, saman.launcher.rank.wrapper; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    loaded = set(done.stdout.split())
    assert "saman" in loaded
    assert sorted(loaded & (HEAVY | {"pydantic", "typer", "rich"})) == []
