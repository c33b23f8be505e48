"""Checks a folder of models."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import UserError
from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.jobs.security.folders import check_locks, check_planted, check_secrets, check_way, missing
from saman.jobs.security.tree import Tree
from saman.registry.store.layout import ModelFolder, list_models
from saman.registry.store.policies import read_policy
from saman.runs.trust.ownership import Doubt, find_doubt


def check_models(folder: Path) -> list[CheckResult]:
    """Every check of a folder of models; if it is missing, a note that says so."""
    if not folder.is_dir():
        return [missing(Check.MODELS_FOLDER, folder)]
    tree = Tree.of(folder)
    doubts = [doubt for doubt in (find_doubt(folder.resolve()), *tree.doubts) if doubt is not None]
    return [
        check_way(Check.MODELS_FOLDER, folder),
        check_locks(Check.MODELS_LOCKS, folder),
        check_permissions(doubts),
        check_keys(tree),
        check_signatures(list_models(folder), shared=bool(doubts)),
        check_planted(Check.MODELS_PLANTED, tree),
        check_secrets(Check.MODELS_SECRETS, tree),
    ]


def check_permissions(doubts: list[Doubt]) -> CheckResult:
    """Whether others may exchange models and decisions. A group that publishes together may, by choice."""
    if not doubts:
        return CheckResult(Check.MODELS_PERMISSIONS, Risk.NONE, "nobody else may write to models or their logs")
    everyone = [doubt for doubt in doubts if doubt.path.lstat().st_mode & 0o002]
    if everyone:
        found = f"everyone may write: {some(everyone)}"
        return CheckResult(Check.MODELS_PERMISSIONS, Risk.DANGER, found, f"chmod -R o-w {everyone[0].path}")
    found = f"others can publish, exchange and delete versions: {some(doubts)}"
    remedy = "for a group that publishes together: signature: required, and the public key outside this folder"
    return CheckResult(Check.MODELS_PERMISSIONS, Risk.WARNING, found, remedy)


def check_keys(tree: Tree) -> CheckResult:
    """Whether keys lie in the folder: a private key can be read, a public key exchanged together with a version."""
    private, public = tree.private_keys(), tree.public_keys()
    if private:
        found = f"private keys in the models folder: {some(private)}"
        return CheckResult(Check.MODELS_KEYS, Risk.DANGER, found, "make a new key, and keep it elsewhere with mode 600")
    if public:
        found = f"public keys in the models folder: {some(public)}; who exchanges a version can exchange the key"
        return CheckResult(Check.MODELS_KEYS, Risk.DANGER, found, "keep them where only the administrator writes")
    return CheckResult(Check.MODELS_KEYS, Risk.NONE, "no keys in the models folder")


def check_signatures(models: list[ModelFolder], *, shared: bool) -> CheckResult:
    """Whether models that others may write to are signed."""
    unsigned = []
    for model in models:
        try:
            if read_policy(model).signature != "required":
                unsigned.append(model.name)
        except UserError as error:
            return CheckResult(Check.MODELS_SIGNATURE, Risk.WARNING, str(error), "saman models verify")
    if unsigned and shared:
        found = f"others may write to models whose policy requires no signature: {some(unsigned)}"
        return CheckResult(Check.MODELS_SIGNATURE, Risk.WARNING, found, "signature: required in policy.yaml")
    return CheckResult(Check.MODELS_SIGNATURE, Risk.NONE, "required" if models and not unsigned else "not required")
