"""A software bill of materials (CycloneDX 1.6, JSON) of everything that saman installs: each package with its digests.

The specification: https://cyclonedx.org/docs/1.6/json/. Packages are named by package URLs (purl).
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from saman.launcher.setup.packages import entries
from saman.launcher.setup.stacks import HOROVOD_SHA256, HOROVOD_VERSION, SoftwareStack

SPECIFICATION = "1.6"
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_PIN = re.compile(r"^[^=\s]+==([^\s;\\]+)(?:\s*;\s*([^\\]+?))?\s*(?:\\|$)", re.MULTILINE)
_SPACE = uuid.UUID("6f1d7a52-52f4-5b0c-9a4e-9b9a4cbb6a10")  # of the serial numbers of saman's own bills


@dataclass(frozen=True)
class Component:
    """A package: its registry (``pypi`` or ``npm``), name and version, and the digests of its archives.

    ``marker`` is the condition on the Python version under which it is installed; empty for every version.
    """

    registry: str
    name: str
    version: str
    digests: tuple[str, ...]
    algorithm: str = "SHA-256"
    marker: str = ""

    @property
    def purl(self) -> str:
        """The package URL.

        >>> Component("npm", "@tensorflow/tfjs", "4.22.0", ()).purl
        'pkg:npm/%40tensorflow/tfjs@4.22.0'
        """
        return f"pkg:{self.registry}/{quote(self.name, safe='/')}@{quote(self.version)}"

    def to_json(self) -> dict[str, Any]:
        """The component as CycloneDX writes it; a reference for each archive, of which one is installed."""
        site = {"pypi": "https://pypi.org/project", "npm": "https://www.npmjs.com/package"}[self.registry]
        archives = [
            {
                "type": "distribution",
                "url": f"{site}/{self.name}#{digest[:16]}",
                "hashes": [{"alg": self.algorithm, "content": digest}],
            }
            for digest in sorted(set(self.digests))
        ]
        plain = {"type": "library", "bom-ref": self.purl, "name": self.name, "version": self.version}
        marker = {"properties": [{"name": "saman:marker", "value": self.marker}]} if self.marker else {}
        return {**plain, "purl": self.purl, "externalReferences": archives, **marker}


def locked_components(lock: Path) -> list[Component]:
    """The packages of a lock file of pip."""
    found = []
    for name, blocks in entries(lock.read_text("utf-8")).items():
        for block in blocks:
            pin = _PIN.match(block)
            if pin is None:
                raise ValueError(f"{lock}: no version of {name}")
            found.append(Component("pypi", name, pin[1], tuple(_HASH.findall(block)), marker=(pin[2] or "").strip()))
    return found


def node_components(lock: Path) -> list[Component]:
    """The packages of a ``package-lock.json``; integrity is SHA-512 in base64, which CycloneDX writes in hex."""
    packages: Mapping[str, Mapping[str, str]] = json.loads(lock.read_text("utf-8"))["packages"]
    found = {}
    for place, about in packages.items():
        if place:
            algorithm, _, encoded = about["integrity"].partition("-")
            if algorithm != "sha512":
                raise ValueError(f"{lock}: {place} has no SHA-512")
            name = place.rpartition("node_modules/")[2]
            component = Component("npm", name, about["version"], (base64.b64decode(encoded).hex(),), "SHA-512")
            found[component.purl] = component
    return list(found.values())


def stack_components(stack: SoftwareStack) -> list[Component]:
    """What ``saman setup`` installs for a stack: the locked packages, and Horovod, which it builds."""
    return [*locked_components(stack.lock), Component("pypi", "horovod", HOROVOD_VERSION, (HOROVOD_SHA256,))]


def bill(name: str, version: str, components: Iterable[Component]) -> dict[str, Any]:
    """The bill of materials; the same components give the same bill, with the same serial number.

    Args:
        name: What consists of the components.
        version: The version of that.
        components: The packages; of two with the same package URL the later adds its digests.
    """
    merged: dict[str, Component] = {}
    for each in components:
        known = merged.get(each.purl)
        markers = {part for part in (known.marker if known else each.marker, each.marker) if part}
        merged[each.purl] = Component(
            each.registry, each.name, each.version, (*(known.digests if known else ()), *each.digests),
            each.algorithm, " or ".join(sorted(markers)) if each.marker and (not known or known.marker) else "",
        )  # fmt: skip
    plain = [merged[purl].to_json() for purl in sorted(merged)]
    serial = uuid.uuid5(_SPACE, json.dumps([name, version, plain], sort_keys=True))
    root = {"type": "application", "bom-ref": name, "name": name, "version": version}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": root, "tools": {"components": [{"type": "application", "name": "saman"}]}},
        "components": plain,
        "dependencies": [{"ref": name, "dependsOn": sorted(merged)}],
    }
