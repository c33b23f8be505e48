"""The steps of a set-up in order: the key of their inputs, and their commands for a dry run."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from saman.launcher.setup import horovod_source, packages, wheel_cache
from saman.launcher.setup.horovod_keras.patched_wheel import PATCHES
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import HOROVOD_SHA256, HOROVOD_VERSION, SetupRequest
from saman.runs import caches

# The environment's first import. Horovod's own check looks at file names only.
CHECK = "import tensorflow, horovod.tensorflow as hvd; hvd.init(); assert hvd.size() == 1; hvd.shutdown()"


@dataclass(frozen=True)
class SetupStep:
    """A step; ``lines`` are its commands for a dry run."""

    name: str
    title: str
    key: str
    lines: tuple[str, ...]


def source_tree() -> Path | None:
    """The root of the source tree that a set-up's step installs; None if saman is installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "setup.cfg").is_file() and (root / "src" / "saman").is_dir() else None


def plan(request: SetupRequest, python: Python) -> list[SetupStep]:
    """Every step of ``request``, finished or not."""
    if request.in_place:
        return [packages_step(request, python), horovod_step(request, python)]
    return [
        environment_step(request, python),
        packages_step(request, python),
        saman_step(request),
        horovod_step(request, python),
    ]


def environment_step(request: SetupRequest, python: Python) -> SetupStep:
    """An empty environment; a different Python, TensorFlow, MPI or GPU choice makes a new environment."""
    key = f"{python.tag} tensorflow {request.stack.tensorflow} mpi {request.mpi} gpu {request.gpu}"
    line = shlex.join([python.executable, "-m", "venv", str(request.venv)])
    return SetupStep("environment", f"environment on Python {python.text}", key, (line,))


def packages_step(request: SetupRequest, python: Python) -> SetupStep:
    """TensorFlow and everything else from the lock."""
    key = step_digest(packages.requirements(request) + f" gpu {request.gpu}")
    kind = "tensorflow[and-cuda]" if request.gpu else "tensorflow-cpu"
    lines = [pip(request, "install", "--no-deps", "--require-hashes", "-r", str(request.stack.lock))]
    if request.gpu:
        lines.append(pip(request, "install", "-c", "LOCKED", f"{kind}=={request.stack.tensorflow}"))
    return SetupStep("packages", f"{kind} {request.stack.tensorflow} and its companions", key, tuple(lines))


def saman_step(request: SetupRequest) -> SetupStep:
    """saman itself, as an editable installation of the source tree."""
    tree = source_tree()
    if tree is None:
        raise ValueError("saman is not in a source tree")
    key = step_digest(
        str(tree) + (tree / "setup.cfg").read_text("utf-8") + (tree / "pyproject.toml").read_text("utf-8")
    )
    return SetupStep("saman", "saman", key, (pip(request, *saman_arguments(tree)),))


def saman_arguments(tree: Path) -> list[str]:
    """pip's arguments for that; the lock already has saman's dependencies, and setuptools to build with."""
    return ["install", "--no-deps", "--no-build-isolation", "--editable", str(tree)]


def horovod_step(request: SetupRequest, python: Python) -> SetupStep:
    """Horovod, built against the TensorFlow and MPI of the environment."""
    inputs = horovod_source.inputs(request, python)
    folder = wheel_cache.place(caches.cache_folder(), inputs)
    key = step_digest(folder.name)
    wheel = wheel_cache.lookup(folder)
    if wheel:
        line = pip(request, "install", "--no-deps", str(wheel))
        return SetupStep("horovod", f"Horovod {HOROVOD_VERSION} from the cache", key, (line,))
    patch = (f"apply {PATCHES}/*.patch to the wheel",) if request.stack.mend_horovod else ()
    install = pip(request, "install", "--no-deps", str(folder / "horovod-*.whl"))
    if horovod_source.is_built(request, python):
        title = f"Horovod {HOROVOD_VERSION} from the cache, patched for Keras 3"
        return SetupStep("horovod", title, key, (*patch, install))
    build = pip(request, "wheel", "--no-build-isolation", "--no-deps", f"horovod-{HOROVOD_VERSION}")
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in horovod_source.flags(request).items())
    mended = ("leave xla_mpi_ops.cc out of horovod/tensorflow/CMakeLists.txt",) if request.stack.mend_horovod else ()
    lines = (
        f"echo 'horovod=={HOROVOD_VERSION} --hash=sha256:{HOROVOD_SHA256}' >horovod.txt",
        pip(request, "download", "--no-deps", "--no-binary", "horovod", "--require-hashes", "-r", "horovod.txt"),
        *mended,
        f"{settings} {build}",
        *patch,
        install,
    )
    return SetupStep("horovod", f"Horovod {HOROVOD_VERSION}, built here (a few minutes)", key, lines)


def pip(request: SetupRequest, *arguments: str) -> str:
    """A command line of the environment's pip."""
    return shlex.join([str(request.venv / "bin" / "python"), "-m", "pip", *arguments])


def step_digest(text: str) -> str:
    """A short name for the inputs of a set-up step."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
