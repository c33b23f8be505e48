"""The schema of ``setup``: how a job gets its software, step by step. Every step is typed; none is shell text.

The job script quotes every value, carries the steps out in order, and checks that each took effect.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from saman.configs.errors import UserError
from saman.configs.problems import Problems, Strict
from saman.configs.site.texts import AbsolutePath, Argument, PathText, VariableName, matching


def _module_name(text: str) -> str:
    if ":" in text:  # it separates the names in LOADEDMODULES
        raise ValueError(f"{text!r} is not the name of a module, such as gcc/12.3.0")
    return text


ModuleName = Annotated[Argument, AfterValidator(_module_name)]
Release = Annotated[str, matching(r"[0-9]{4}\.[0-9]{2}", "a version of EESSI", '"2023.06", in quotes')]


class Modules(Strict):
    """Environment modules (Lmod, EasyBuild, Environment Modules)."""

    purge: bool = False
    use: list[Argument] = []
    load: list[ModuleName] = []


class Collection(Strict):
    """A saved module collection (``module save NAME``), and the modules that it must bring."""

    name: Argument
    modules: list[ModuleName] = []


class SourcedFile(Strict):
    """A file of the site to source, and the variables that it must set."""

    file: AbsolutePath
    sets: list[VariableName] = []


class Conda(Strict):
    """A conda environment: the root with ``etc/profile.d/conda.sh``, and the environment's name or path."""

    root: PathText
    environment: Argument


class Pixi(Strict):
    """An environment of a pixi workspace, installed before: a job installs nothing."""

    manifest: AbsolutePath  # pixi.toml or pyproject.toml
    environment: Argument = "default"
    program: PathText = "pixi"


class Uv(Strict):
    """The ``.venv`` of a uv project, made before by ``uv sync``: a job installs nothing."""

    project: AbsolutePath


class Eessi(Strict):
    """The European Environment for Scientific Software Installations; ``modules`` steps after it load from it."""

    version: Release
    root: AbsolutePath = "/cvmfs/software.eessi.io"


class Spack(Strict):
    """A Spack instance: an environment to activate (name or folder), specs to load, or both."""

    root: AbsolutePath
    environment: Argument | None = None
    load: list[Argument] = []


class SoftwareStep(Strict):
    """A step of the set-up: exactly one of its keys."""

    modules: Modules | None = None
    collection: Collection | None = None
    source: SourcedFile | None = None
    virtualenv: PathText | None = None
    conda: Conda | None = None
    pixi: Pixi | None = None
    uv: Uv | None = None
    eessi: Eessi | None = None
    spack: Spack | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SoftwareStep:
        kinds = ", ".join(type(self).model_fields)
        set_here = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(set_here) != 1:
            given = " and ".join(set_here) or "none"
            raise Problems([UserError(f"a step has exactly one key; it has {given}", remedy=f"one of {kinds}")])
        return self

    @property
    def kind(self) -> str | None:
        """The key of this step in the cluster file's set-up."""
        return next((name for name in type(self).model_fields if getattr(self, name) is not None), None)

    @property
    def brings_python(self) -> bool:
        """Whether the step puts a Python first on ``PATH``, as far as its kind tells."""
        return self.kind not in ("source", "eessi") and (self.modules is None or bool(self.modules.load))


class Software(Strict):
    """How a job finds the Python that has saman. Of variables, only a named set is expanded."""

    modules: Modules = Modules()
    virtualenv: PathText | None = None
    conda: Conda | None = None
    python: PathText | None = None  # on the compute nodes, after the set-up; null: the Python of `saman submit`

    @model_validator(mode="after")
    def _one_environment(self) -> Software:
        if self.virtualenv is not None and self.conda is not None:
            raise Problems([UserError("both virtualenv and conda are set; keep one of them", where="conda")])
        return self

    def steps(self) -> list[SoftwareStep]:
        """The steps of the keys ``modules``, ``virtualenv`` and ``conda``."""
        found = [SoftwareStep(modules=self.modules)] if self.modules != Modules() else []
        found += [SoftwareStep(virtualenv=self.virtualenv)] if self.virtualenv is not None else []
        return found + ([SoftwareStep(conda=self.conda)] if self.conda is not None else [])
