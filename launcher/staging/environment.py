"""The Python environment of this process as an archive that works in another folder.

It holds ``env/`` (the environment), ``base/`` (the Python it was made from, unless that belongs to the system, which
every node has) and saman itself, where it is installed as a link to its source. Console scripts name the original
environment in their first line; ``node.sh`` rewrites them.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import saman
from saman.launcher.setup import stamp as setup_stamp
from saman.launcher.staging.archive import Archive, content_facts, kept_archive, stamp_of

ROOT = "@ENVIRONMENT@"  # stands in pyvenv.cfg for the folder of the copy
_SYSTEM = ("/usr", "/bin", "/lib")
_NOT_OF_BASE = frozenset({"test", "tests", "idlelib", "ensurepip", "site-packages", "turtledemo", "lib2to3"})


@dataclass(frozen=True)
class Environment:
    """An environment: its folder, the Python below it (``None`` for the system's), saman's package outside of it."""

    prefix: Path
    base: Path | None
    package: Path | None
    python: str  # major.minor

    @property
    def site_packages(self) -> Path:
        """The folder of its packages, relative to ``prefix``."""
        return Path("lib", f"python{self.python}", "site-packages")


def this_environment() -> Environment | None:
    """The environment of this process; ``None`` if it is the system's Python, which every node has."""
    prefix, base = Path(sys.prefix), Path(sys.base_prefix)
    if _is_system(prefix):
        return None
    package = Path(saman.__file__).parent
    inside = prefix in package.parents
    below = None if base == prefix or _is_system(base) else base
    return Environment(prefix, below, None if inside else package, f"{sys.version_info[0]}.{sys.version_info[1]}")


def _is_system(folder: Path) -> bool:
    return str(folder).startswith(_SYSTEM) and not str(folder).startswith("/usr/local/")


def environment_stamp(environment: Environment) -> str:
    """The name of an environment's content: its packages, by their records, and saman's own files.

    The records of some hundred packages stand for their tens of thousands of files.
    """
    packages = environment.prefix / environment.site_packages
    records = sorted(packages.glob("*.dist-info/RECORD"))
    facts = [sys.version, str(environment.base), str(setup_stamp.read(environment.prefix))]
    facts += [f"{file.parent.name}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in records]
    if environment.package is not None:
        facts += [fact for path in sorted(environment.package.iterdir()) for fact in _sources(path)]
    return stamp_of("environment", environment.prefix, facts)


def _sources(path: Path) -> list[str]:
    return [fact for fact in content_facts(path.resolve()) if ".pyc:" not in fact]


def environment_archive(environment: Environment, tell: Callable[[str], None]) -> Archive:
    """The archive of an environment, from the cache or built now. Raises as ``kept_archive``."""

    def fill(archive: tarfile.TarFile) -> None:
        for source, name in _members(environment):
            info = archive.gettarinfo(source, name)
            _relocated(info, environment)
            if info.isreg():
                with source.open("rb") as stream:
                    archive.addfile(info, stream)
            else:
                archive.addfile(info)
        _add_text(archive, "env/pyvenv.cfg", _configuration(environment))

    return kept_archive(environment_stamp(environment), fill, tell)


def _members(environment: Environment) -> Iterator[tuple[Path, str]]:
    for path, name in _walk(environment.prefix, follow=False):
        editable = name.startswith(str(environment.site_packages)) and Path(name).name.startswith("__editable__.saman")
        if name != "pyvenv.cfg" and not editable:
            yield path, f"env/{name}"
    if environment.package is not None:
        for path, name in _walk(environment.package, follow=True):
            yield path, f"env/{environment.site_packages}/saman/{name}"
    if environment.base is not None:
        yield from _base_members(environment.base, environment.python)


def _base_members(base: Path, python: str) -> Iterator[tuple[Path, str]]:
    """The interpreter and the standard library."""
    yield base / "bin" / f"python{python}", f"base/bin/python{python}"
    for library in sorted((base / "lib").glob("libpython*.so*")):
        yield library, f"base/lib/{library.name}"
    standard = base / "lib" / f"python{python}"
    for path, name in _walk(standard, follow=False, without=_NOT_OF_BASE):
        if not name.startswith("config-"):
            yield path, f"base/lib/python{python}/{name}"


def _walk(root: Path, follow: bool, without: frozenset[str] = frozenset()) -> Iterator[tuple[Path, str]]:
    """Every file and link below ``root`` with its name there; ``follow`` takes what links lead to."""
    for folder, folders, names in os.walk(root, followlinks=follow):
        links = [] if follow else [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and name not in without)
        for name in sorted([*names, *links]):
            path = Path(folder, name)
            yield path.resolve() if follow else path, str(path.relative_to(root))


def _relocated(info: tarfile.TarInfo, environment: Environment) -> None:
    """Let links to the base Python, and into the environment itself, lead to the copy."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if not info.issym():
        return
    target = Path(info.linkname)
    up = "/".join([".."] * (len(Path(info.name).parts) - 1))
    if environment.base is not None and target.is_relative_to(environment.base):
        info.linkname = f"{up}/base/bin/python{environment.python}"
    elif target.is_relative_to(environment.prefix):
        info.linkname = f"{up}/env/{target.relative_to(environment.prefix)}"


def _configuration(environment: Environment) -> str:
    """``pyvenv.cfg`` of the copy; empty if the environment is no virtual environment."""
    file = environment.prefix / "pyvenv.cfg"
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    home = f"home = {ROOT}/base/bin"
    return "".join(
        f"{home if environment.base is not None and line.startswith('home') else line}\n"
        for line in lines
        if line.startswith(("home", "include-system-site-packages", "version"))
    )


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    if text:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(text.encode()), 0o644
        archive.addfile(info, io.BytesIO(text.encode()))
