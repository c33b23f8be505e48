"""``import saman`` in notebooks and scripts: real runs on two ranks, and every example of a docstring carried out."""

from __future__ import annotations

import doctest
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import saman
from saman.configs.errors import ExitCode
from saman.runs.folder import RunFolder

HOSTILE = "<script>alert(1)</script>"
STUDY = """
name: small
experiment: quickstart
set: {starter: processes, train.epochs: 2, train.telemetry_window_steps: 2, batch_size: 128}
scaling: strong
axes: {strategy: [horovod], ranks: [1, 2]}
repeats: 2
"""


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, and every public method of a public class."""
    for name in saman.__all__:
        value = getattr(saman, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value) and value.__module__.startswith("saman.api"):
            own = ((key, member) for key, member in vars(value).items() if not key.startswith("_"))
            yield from ((f"{name}.{key}", member) for key, member in own if inspect.isfunction(member))


PUBLIC = dict(public())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with one run that ``saman.run`` has completed and published, and a study file."""
    folder = tmp_path_factory.mktemp("face")
    (folder / "study.yaml").write_text(STUDY)
    before = Path.cwd()
    os.chdir(folder)
    try:
        experiment = saman.load_experiment(
            "quickstart", train__epochs=2, train__telemetry_window_steps=5, publish__if=None, launch__with="processes"
        )
        trained = saman.run(experiment, ranks=2)
        (folder / "first").write_text(trained.id)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace as the working directory."""
    monkeypatch.chdir(workplace)
    return workplace


# ---- what importing costs --------------------------------------------------------------------------------


def test_import_saman_loads_nothing_but_the_standard_library(tmp_path: Path) -> None:
    program = "import sys; before = set(sys.modules); import saman; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert loaded - set(sys.stdlib_module_names) == {"saman"}
    assert {name for name in done.stdout.split() if name.startswith("saman.")} == {"saman.api"}


def test_every_public_name_can_be_listed_and_loaded() -> None:
    assert set(saman.__all__) <= set(dir(saman))
    assert all(getattr(saman, name).__doc__ for name in saman.__all__)
    with pytest.raises(AttributeError, match="module 'saman' has no attribute 'ruin'"):
        saman.ruin  # noqa: B018


def test_a_type_checker_sees_the_types(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import saman\nreveal_type(saman.open_run('last').logs(1))\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(tmp_path / "script.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert 'Revealed type is "str"' in done.stdout.replace("builtins.", ""), done.stdout


# ---- documentation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_function_documents_arguments_result_and_an_example(name: str) -> None:
    function = PUBLIC[name]
    text = inspect.getdoc(function) or ""
    assert "Example:" in text
    parameters = [key for key in inspect.signature(function).parameters if key != "self"]
    described = re.findall(r"^    \*{0,2}(\w+): ", text, re.M)
    if len(parameters) > 1:
        assert set(parameters) <= set(described)
    assert "Returns:" in text or text.startswith("Return ")


@pytest.mark.ranks
@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - {"submit"}))  # tests/slurm runs it
def test_the_example_of_a_docstring_works(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "autotune":  # ten real runs take a minute; tests/tuning/machine makes one
        monkeypatch.setattr("saman.tuning.machine.search.measure_run", lambda *_: 1000.0)
    if name == "StudyRuns.report":
        saman.study("study.yaml", quiet=True)
    carry_out(name)


def carry_out(name: str) -> None:
    """Run the example of a public function's docstring."""
    example = doctest.DocTestParser().get_doctest(PUBLIC[name].__doc__ or "", {}, name, None, 0)
    assert example.examples
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=options).run(example)
    assert result.failed == 0


# ---- experiments -----------------------------------------------------------------------------------------


def test_overrides_are_the_same_as_on_the_command_line() -> None:
    from saman.configs.loading.experiments import load_experiment

    words = ["train.epochs=3", "launch.with=mpirun", "publish=null", "model.args.hidden=[8, 8]", "name=ber"]
    by_keyword = saman.load_experiment(
        "quickstart", train__epochs=3, launch__with="mpirun", publish=None, model__args__hidden=[8, 8], name="ber"
    )
    assert load_experiment("quickstart", words).experiment == by_keyword.experiment
    paths = {"train.epochs": 3, "launch.with": "mpirun", "publish": None, "model.args.hidden": [8, 8], "name": "ber"}
    assert saman.load_experiment("quickstart", **paths).experiment == by_keyword.experiment


def test_values_of_numpy_and_paths_are_taken_and_others_refused(tmp_path: Path) -> None:
    import numpy as np

    assert saman.load_experiment("quickstart", train__epochs=np.int64(4)).experiment.train.epochs == 4
    with pytest.raises(saman.UserError) as refusal:
        saman.load_experiment("quickstart", train__epochs=object())
    assert refusal.value.where == "train.epochs"
    with pytest.raises(saman.UserError) as refusal:
        saman.load_experiment("quickstart", data__source="fashion_mnist", data__args__folder=tmp_path / "none")
    assert str(tmp_path / "none") in str(refusal.value)


def test_a_mistake_raises_and_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for mistake in (
        lambda: saman.run("quickstart", ranks=0),
        lambda: saman.run(saman.load_experiment("quickstart"), ranks=-1),
        lambda: saman.run("missing.yaml"),
        lambda: saman.submit("quickstart", cluster="missing"),
        lambda: saman.study("missing"),
        lambda: saman.report("missing"),
        lambda: saman.open_run("missing"),
    ):
        with pytest.raises(saman.UserError) as refusal:
            mistake()
        assert refusal.value.exit_code == ExitCode.BAD_REQUEST
    assert list(tmp_path.iterdir()) == []


# ---- a run on two ranks ----------------------------------------------------------------------------------


@pytest.mark.ranks
def test_a_run_gives_its_state_metrics_telemetry_and_logs(here: Path) -> None:
    run = saman.open_run((here / "first").read_text())
    assert run.state == "completed"
    assert run.path.parent == here / "runs" / "quickstart"
    assert 0 < run.metrics["val_accuracy"] <= 1
    frame = run.telemetry()
    lines = [json.loads(line) for file in run.path.glob("attempts/1/nodes/*.jsonl") for line in file.open()]
    traced = {line["step"] for line in lines if line["compiled"]}
    assert frame["samples"].sum() == sum(line["samples"] for line in lines if line["step"] not in traced) > 1000
    assert run.excluded_windows()["compiled"] == len(traced)
    assert (frame["samples_per_second"] - frame["samples"] / frame["seconds"]).abs().max() < 1e-6
    assert frame["last_step"].is_sorted()
    assert str(frame["ended_at_utc"].dtype).startswith("Datetime")
    assert run.logs(0) != run.logs(1)
    assert run.published == "digits:1"


@pytest.mark.ranks
def test_notebooks_show_runs_reports_and_models_as_html(here: Path) -> None:
    run = saman.open_run("last")
    for value in (run, saman.report(run), saman.models(), saman.study("study.yaml", dry_run=True)):
        shown = value._repr_html_()
        assert "<table" in shown
        assert "<script" not in shown
    assert "val_accuracy" in run._repr_html_()
    assert run.id in repr(run)


@pytest.mark.ranks
def test_a_failed_run_raises_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def build():\n    raise ValueError('no layers today')\n")
    (tmp_path / "broken.yaml").write_text(
        "name: broken\nmodel: {build: 'broken:build'}\ndata: {source: digits}\n"
        "train: {strategy: single, epochs: 1, global_batch_size: 64}\n"
    )
    with pytest.raises(saman.RunFailed) as failure:
        saman.run("broken.yaml", quiet=True)
    assert failure.value.exit_code == ExitCode.RUN_FAILED
    assert failure.value.run.state == "failed"
    assert "no layers today" in failure.value.run.logs()
    assert "first failing rank" in failure.value.run._repr_html_()


def _kinds(folder: Path) -> set[str]:
    """What has happened so far in the runs of a folder."""
    return {event.kind for run in folder.glob("runs/*/*") for event in RunFolder(run).events()}


@pytest.mark.ranks
def test_an_interrupted_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a script raises KeyboardInterrupt; the run continues from its checkpoint."""
    monkeypatch.chdir(tmp_path)
    script = (
        "import saman\n"
        "e = saman.load_experiment('quickstart', train__epochs=40, publish=None, launch__with='processes',\n"
        "                          train__checkpoint={'every_epochs': 1, 'keep': 2})\n"
        "try:\n    saman.run(e, ranks=2)\n"
        "except KeyboardInterrupt:\n    print('interrupted', saman.open_run('last').state)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while "checkpoint" not in _kinds(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["interrupted", "cancelled"]
    run = saman.open_run("last")
    epochs = len([event for event in RunFolder(run.path).events() if event.kind == "epoch"])
    assert run.resume() is run
    assert run.state == "completed"
    events = RunFolder(run.path).events()
    assert [event.facts["epoch"] for event in events if event.kind == "resumed"][0] >= min(epochs, 1)
    assert run.telemetry()["last_step"].max() == 40 * 23


# ---- studies ---------------------------------------------------------------------------------------------


@pytest.mark.ranks
def test_a_study_runs_once_and_reports(here: Path) -> None:
    study = saman.study("study.yaml", quiet=True)
    assert [planned.state for planned in study.planned] == ["done"] * 4
    before = {run.id for run in study.runs}
    assert {run.id for run in saman.study("study.yaml", quiet=True).runs} == before
    report = study.report()
    assert set(report.tables["points"]["ranks"]) == {1, 2}
    assert report.opening
    assert report.write("written", papers=False) == Path("written/report.html")
    assert "<script" not in report._repr_html_()


# ---- hostile names ---------------------------------------------------------------------------------------


def test_hostile_text_in_a_run_is_escaped(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, saman.load_experiment("quickstart").experiment)
    run.append("attempt_started", "supervisor", 1)
    run.append("epoch", "chief", 1, epoch=1, step=1, metrics={HOSTILE: 1.0})
    run.append("failed", "supervisor", 1, message=HOSTILE, ranks=[1])
    shown = saman.open_run(run.path)._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown


def test_hostile_text_in_listings_and_reports_is_escaped(tmp_path: Path) -> None:
    from saman.registry.listing import VersionRow
    from saman.scaling.analysis.findings import Finding, FindingKind
    from saman.scaling.report.writer import Column, Page, Table

    table = Table("Points", HOSTILE, (Column(HOSTILE),), ((HOSTILE,),))
    page = Page(HOSTILE, HOSTILE, (HOSTILE,), (Finding(FindingKind.NO_RUNS, HOSTILE),), (), (table,), {}, HOSTILE, {})
    row = VersionRow(
        model=HOSTILE, version=1, labels=(HOSTILE,), status=HOSTILE, published_at=time.time(), published_by=HOSTILE,
        run=HOSTILE, approved_by=(), formats=(), path=Path(HOSTILE), metrics={HOSTILE: 1.0}, bytes=1,
    )  # fmt: skip
    for value in (saman.Report(page), saman.ModelVersions([row], tmp_path), saman.ModelVersions([], Path(HOSTILE))):
        shown = value._repr_html_()
        assert "&lt;script&gt;" in shown
        assert "<script" not in shown
