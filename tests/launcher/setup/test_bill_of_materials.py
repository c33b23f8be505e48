"""The software bill of materials names everything that saman installs, with the digests that pip and npm check."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path

import pytest

from saman.cli.main import main
from saman.launcher.setup.bill_of_materials import Component, bill, locked_components, node_components
from saman.launcher.setup.stacks import HOROVOD_SHA256, STACKS


@pytest.fixture(scope="module", params=list(STACKS))
def printed(request: pytest.FixtureRequest) -> tuple[str, dict]:  # type: ignore[type-arg]
    """A stack's name, and what ``saman setup --sbom`` prints for it."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(["setup", "--sbom", "--tensorflow", request.param])
    return request.param, json.loads(out.getvalue())


def test_every_package_of_the_lock_is_in_the_bill_with_every_digest(printed: tuple[str, dict]) -> None:  # type: ignore[type-arg]
    name, found = printed
    text = STACKS[name].lock.read_text()
    pins = set(re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE))
    purls = {component["purl"] for component in found["components"]}
    assert pins and {f"pkg:pypi/{package}@{version}" for package, version in pins} <= purls
    digests = {
        written["content"]
        for component in found["components"]
        for reference in component["externalReferences"]
        for written in reference["hashes"]
    }
    assert set(re.findall(r"sha256:([0-9a-f]{64})", text)) | {HOROVOD_SHA256} <= digests
    assert {"pkg:pypi/horovod@0.28.1", "pkg:pypi/onnxruntime@1.23.2", "pkg:npm/%40tensorflow/tfjs@4.22.0"} <= purls


def test_the_bill_follows_the_specification(printed: tuple[str, dict]) -> None:  # type: ignore[type-arg]
    """What CycloneDX 1.6 requires of the parts that are used; the whole schema was checked with its own validator."""
    _, found = printed
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.6", 1)
    uuid.UUID(found["serialNumber"].removeprefix("urn:uuid:"))
    references = [component["bom-ref"] for component in found["components"]]
    assert len(references) == len(set(references)), "a reference stands for two components"
    assert set(found["dependencies"][0]["dependsOn"]) == set(references)
    for component in found["components"]:
        assert component["type"] == "library" and component["name"] and component["version"]
        archives = component["externalReferences"]
        assert archives and len({json.dumps(archive) for archive in archives}) == len(archives)
        for archive in archives:
            [written] = archive["hashes"]
            length = {"SHA-256": 64, "SHA-512": 128}[written["alg"]]
            assert archive["type"] == "distribution" and re.fullmatch(rf"[0-9a-f]{{{length}}}", written["content"])


def test_the_same_locks_give_the_same_bill() -> None:
    parts = [Component("pypi", "a", "1", ("0" * 64,)), Component("pypi", "b", "2", ("1" * 64,))]
    assert bill("x", "1", parts) == bill("x", "1", parts[::-1])
    other = [parts[0], Component("pypi", "b", "2", ("2" * 64,))]
    assert bill("x", "1", parts)["serialNumber"] != bill("x", "1", other)["serialNumber"]


def test_a_condition_on_the_python_version_is_kept(tmp_path: Path) -> None:
    digest = "0" * 64
    lock = tmp_path / "x.lock"
    lock.write_text(
        f"a==1 ; python_full_version < '3.11' \\\n    --hash=sha256:{digest}\na==2 \\\n    --hash=sha256:{digest}\n"
    )
    assert [(part.version, part.marker) for part in locked_components(lock)] == [
        ("1", "python_full_version < '3.11'"), ("2", "")
    ]  # fmt: skip


def test_a_node_package_without_a_digest_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "package-lock.json"
    about = {"version": "1.0.0", "integrity": "sha1-AAAA"}
    lock.write_text(json.dumps({"packages": {"": {}, "node_modules/x": about}}))
    with pytest.raises(ValueError, match="no SHA-512"):
        node_components(lock)
