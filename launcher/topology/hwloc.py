"""Reads the XML of ``lstopo --of xml`` (hwloc 2). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from saman.launcher.topology.model import Topology

_ADAPTERS, _COPROCESSORS = "3", "5"  # osdev_type of OpenFabrics devices, and of coprocessors such as cuda0
_LARGEST = 16 << 20


def parse_xml(text: str) -> Topology:
    """The topology in the file; empty for a text that is not hwloc's, or that declares entities."""
    if len(text) > _LARGEST or "<!ENTITY" in text:
        return Topology({})
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return Topology({})
    found = Topology({}, {}, {})
    _collect(root, (), found)
    return found


def _collect(element: ElementTree.Element, above: tuple[int, ...], found: Topology) -> None:
    """Add what is below ``element``; ``above`` are the NUMA domains of the innermost object that has some."""
    kind, own = element.get("type"), _numbers(element.get("nodeset", ""))
    domains = own or above
    cores, gpus, adapters = found.cores, found.gpus, found.adapters
    assert isinstance(cores, dict) and isinstance(gpus, dict) and isinstance(adapters, dict)
    if kind == "NUMANode":
        cores[int(element.get("os_index", "0"))] = tuple(_numbers(element.get("cpuset", "")))
    if kind == "OSDev" and len(domains) == 1:
        name, device = element.get("name", ""), element.get("osdev_type", "")
        gpu = re.fullmatch(r"(?:cuda|rsmi|nvml)(\d+)", name)
        if device == _ADAPTERS:
            adapters[name] = domains[0]
        elif gpu is not None and (device == _COPROCESSORS or name.startswith(("rsmi", "nvml"))):
            gpus.setdefault(gpu[1], domains[0])
    for child in element:
        _collect(child, domains, found)


def _numbers(mask: str) -> tuple[int, ...]:
    """The bits of a mask such as ``0x0000ff00,0xffffffff``, whose words are 32 bits, the highest first."""
    return tuple(_bits(mask))


def _bits(mask: str) -> Iterator[int]:
    words = mask.split(",")
    for place, word in enumerate(reversed(words)):
        value = int(word, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,8}", word) else 0
        yield from (32 * place + bit for bit in range(32) if value >> bit & 1)
