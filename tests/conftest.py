"""What tests need of the machine, said by markers: what is missing skips a test here and fails it in CI.

``SAMAN_REQUIRE=slurm,mpi,browser`` (or ``all``, also the default where ``CI`` is set) names what must be there: a test
that would be skipped for want of it fails instead, so that nothing is silently left out.
Fixtures of several rooms are here too.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
from file_scheduling import pytest_xdist_make_scheduler  # noqa: F401 (a hook)

from saman.runs.folder import RunFolder
from saman.slurm.minicluster import missing_packages

# The generator of synthetic runs, which the report's benchmark uses too.
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "report"))

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FASHION_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip


def _module(name: str) -> str | None:
    return None if find_spec(name) else f"{name} is not installed (make setup)"


def _command(*names: str) -> str | None:
    return None if any(shutil.which(name) for name in names) else f"no {' or '.join(names)} on PATH"


def _mpi() -> str | None:
    from saman.launcher.node.mpi import find_mpi

    return None if find_mpi() else "no mpirun that answers"


def _slurm() -> str | None:
    missing = missing_packages()
    return f"a minicluster needs {', '.join(missing)}" if missing else None


def _ssh() -> str | None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # sshd is not for users
    missing = [name for name in ("ssh", "sshd", "rsync") if shutil.which(name, path=path) is None]
    return f"no {', '.join(missing)} on PATH" if missing else None


def _prometheus() -> str | None:
    alertmanager = _command("prometheus-alertmanager", "alertmanager")
    return _command("prometheus") or _command("promtool") or alertmanager


def _data() -> str | None:
    folder = os.environ.get("SAMAN_FASHION_MNIST")
    if not folder:
        return "SAMAN_FASHION_MNIST names no folder with the IDX files"
    lacking = [name for name in FASHION_FILES if not list(Path(folder).glob(f"{name}*"))]
    return f"{folder} has no {', '.join(lacking)}" if lacking else None


# marker -> what is missing for it, or None
NEEDS: dict[str, Callable[[], str | None]] = {
    "tensorflow": lambda: _module("tensorflow"),
    "ranks": lambda: _module("horovod"),
    "mpi": _mpi,
    "slurm": _slurm,
    "ssh": _ssh,
    "prometheus": _prometheus,
    "browser": lambda: _command(*BROWSERS),
    "data": _data,
    "tune": lambda: _module("optuna"),
}


def required() -> set[str]:
    """The markers whose needs must be there."""
    text = os.environ.get("SAMAN_REQUIRE", "all" if os.environ.get("CI", "").lower() in ("1", "true") else "")
    names = {name.strip() for name in text.split(",") if name.strip()}
    unknown = names - set(NEEDS) - {"all"}
    if unknown:
        raise pytest.UsageError(f"SAMAN_REQUIRE names {', '.join(sorted(unknown))}; valid: all, {', '.join(NEEDS)}")
    return set(NEEDS) if "all" in names else names


def pytest_configure(config: pytest.Config) -> None:
    required()  # a misspelt requirement would require nothing
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell's background job; Ctrl-C is tested
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # A wall time is no promise: on a busy machine an example may take long.
    hypothesis.settings.register_profile("saman", deadline=None)
    hypothesis.settings.load_profile("saman")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run here, before its fixtures start; what is required is left to fail by itself."""
    others = [item for item in items if not _is_about_this_keras(item)]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    lacks = {name: lack() for name, lack in NEEDS.items() if any(item.get_closest_marker(name) for item in items)}
    for item in items:
        for name, lack in lacks.items():
            if lack and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=lack))


def _is_about_this_keras(item: pytest.Item) -> bool:
    mark = item.get_closest_marker("keras")
    return mark is None or find_spec("keras") is None or version("keras").startswith(f"{mark.args[0]}.")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A skip for want of something required is a failure, whoever decided to skip."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    needs = [name for name in required() if item.get_closest_marker(name)]
    if report.skipped and needs and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} needs {', '.join(needs)}, which SAMAN_REQUIRE demands: {reason}"


@pytest.fixture(scope="session")
def fashion_mnist_folder() -> Path:
    """900 real images in IDX files; mark the test ``data``."""
    lack = _data()
    if lack:
        pytest.skip(lack)
    return Path(os.environ["SAMAN_FASHION_MNIST"])


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``good`` and ``poor`` (hardly trained) exports of real images, and a small ``synthetic`` export of 64 features.

    The images are Fashion-MNIST's where SAMAN_FASHION_MNIST names them, else scikit-learn's digits.
    """
    folder = tmp_path_factory.mktemp("exports")
    images = os.environ.get("SAMAN_FASHION_MNIST", "digits")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    wanted = (("good", images, 900, 0), ("poor", images, 1, 1), ("synthetic", "synthetic", 300, 0))
    each = [[str(folder / name), source, str(steps), str(seed)] for name, source, steps, seed in wanted]
    program = Path(__file__).parent / "registry" / "make_export.py"
    command = [sys.executable, str(program), *(part for arguments in each for part in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return {name: folder / name for name, *_ in wanted}


@pytest.fixture(scope="session")
def real_run(real_exports: dict[str, Path]) -> Callable[[Path, str], RunFolder]:
    """A finished run that exported one of ``real_exports``."""
    from tests.registry.registry_kit import experiment

    def make(folder: Path, which: str, model: str = "images") -> RunFolder:
        run = RunFolder.create(folder / "runs", experiment(model=model))
        shutil.copytree(real_exports[which], run.export, dirs_exist_ok=True)
        run.append("completed", "supervisor")
        return run

    return make
