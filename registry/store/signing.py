"""Signatures of versions: made with a private key, required by policy, checked with the public key.

The signature covers the manifest, which holds the SHA-256 of every other file. The model-signing library (extra
``sign``) makes and checks it as a sigstore bundle; keys are elliptic-curve PEM files.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.home_folder import in_home
from saman.configs.schemas.policy import Policy
from saman.registry.store import manifest
from saman.registry.store.layout import MANIFEST, SIGNATURE, ModelFolder
from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors


def _library() -> tuple[Any, Any]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        problem = f"signatures need a missing library: {error.name}"
        raise EnvironmentLack(problem, remedy="pip install 'saman[sign]'") from error
    return signing, verifying


@contextmanager
def _manifest_only(version: Path) -> Iterator[Path]:
    """A folder that holds only the manifest: the library signs whole folders."""
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        shutil.copyfile(version / MANIFEST, Path(scratch, "saman.json"))
        yield Path(scratch)


def sign(folder: ModelFolder, number: int, private_key: Path) -> Path:
    """Write the signature of a version's manifest into the store.

    Args:
        folder: The model.
        number: The version.
        private_key: The file of the private key, in PEM.

    Returns:
        The signature's file.

    Raises:
        UserError: The key is missing or cannot sign.
    """
    signing, _ = _library()
    version = folder.version(number)
    if not private_key.is_file():
        raise UserError("no such key file", where=str(private_key))
    with _manifest_only(version) as content, tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        made = Path(scratch, "signature")
        try:
            signing.Config().use_elliptic_key_signer(private_key=private_key).sign(content, made)
        except (ValueError, TypeError) as error:
            remedy = "a private key in PEM: openssl ecparam -name prime256v1 -genkey -noout"
            raise UserError(f"this key cannot sign: {error}", where=str(private_key), remedy=remedy) from error
        with explain_write_errors(version, "the signature", MODELS_OPTION):
            write_whole(version / SIGNATURE, made.read_bytes())
    return version / SIGNATURE


def signature_problem(folder: ModelFolder, number: int, policy: Policy) -> str:
    """What is wrong with the signature of a version under the model's policy.

    Without a public key in the policy, only the presence of a signature is checked. A signature fits only the model and
    the version that its manifest names.

    Args:
        folder: The model.
        number: The version.
        policy: The model's policy.

    Returns:
        The problem; empty for a valid signature, or where the policy requires none.
    """
    path = folder.version(number)
    if not (path / SIGNATURE).is_file():
        return "the policy asks for a signature, but there is none" if policy.signature == "required" else ""
    if policy.public_key is None:
        return "the policy asks for signatures but names no public_key" if policy.signature == "required" else ""
    key = folder.models_dir / in_home(policy.public_key)
    if problem := _key_problem(folder, key) or _identity_problem(folder, number):
        return problem
    _, verifying = _library()
    with _manifest_only(path) as content:
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=key).verify(content, path / SIGNATURE)
        except Exception as error:  # the library raises the errors of its parts; each means a mismatch
            return f"the signature does not fit the manifest and the policy's public_key ({type(error).__name__})"
    return ""


def _key_problem(folder: ModelFolder, key: Path) -> str:
    """Why a public key proves nothing; empty for a sound key."""
    if key.resolve().is_relative_to(folder.models_dir.resolve()):
        why = "whoever can exchange a version there can exchange the key; keep it in a folder that only you can write"
        return f"the policy's public_key lies in the models folder ({key}): {why}"
    if not key.is_file():
        return f"the policy's public_key does not exist: {key}"
    if key.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write the policy's public_key: {key}; chmod go-w"
    return ""


def _identity_problem(folder: ModelFolder, number: int) -> str:
    """Whether the manifest names another model or version: a signed version can be copied to another place."""
    try:
        about = manifest.read(folder.version(number))
    except UserError as error:
        return error.problem
    return (
        ""
        if (about.model, about.version) == (folder.name, number)
        else (f"the signed manifest is that of {about.model} version {about.version}")
    )
