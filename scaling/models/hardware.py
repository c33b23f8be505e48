"""Reads ranks per node from a line that describes hardware, in the words that publications use."""

from __future__ import annotations

import re

_NUMBER_WORDS = {"one": 1, "single": 1, "two": 2, "four": 4, "eight": 8, "sixteen": 16}
_COUNT = r"(\d+|one|single|two|four|eight|sixteen)"
_DEVICE = r"[\w.+-]+(?:[\s-][\w.+-]+){0,3}?"
# "8xK80/node", "4x A100 per node", "8 GPUs/node", "four GPUs per node", "8 GPU nodes", "4 nodes x 8 V100"
_PATTERNS = (
    rf"{_COUNT}\s*[x×*]\s*{_DEVICE}\s*(?:/|per|each|in each)\s*(?:node|server|host|machine|instance)",
    rf"{_COUNT}\s*(?:[\w.-]+\s+){{0,2}}?(?:gpu|gcd|device|accelerator|rank|core|tpu|chip|process)\w*\s*(?:/|per)\s*"
    r"(?:node|server|host|machine|instance)",
    rf"(?:nodes?|servers?|hosts?|machines?|instances?)\s*(?:of|with|[x×*])\s*{_COUNT}\b",
    rf"{_COUNT}[\s-]*gpu\s+(?:node|server|host|machine|instance)",
    rf"(?:gpus?|ranks?|devices?)\s*(?:/|per)\s*node\s*[:=]?\s*{_COUNT}\b",
    rf"{_COUNT}\s+[A-Za-z][\w-]*(?:\s[\w-]+)?\s*(?:/|per)\s*(?:node|server|host|machine|instance)",
)
_ALL_ON_ONE = re.compile(r"\b(?:1|one|single)\s*[- ]?(?:node|server|host|machine|workstation)\b", re.IGNORECASE)
_DEVICES = re.compile(rf"{_COUNT}\s*[x×*]?\s*(?:[A-Za-z][\w-]*\d\w*|gpus?|cores?|gcds?)", re.IGNORECASE)
# Accelerators of a machine type, from the vendors' pages of instance types and systems.
_MACHINES = {
    "p2.xlarge": 1, "p2.8xlarge": 8, "p2.16xlarge": 16,
    "p3.2xlarge": 1, "p3.8xlarge": 4, "p3.16xlarge": 8, "p3dn.24xlarge": 8,
    "p4d.24xlarge": 8, "p4de.24xlarge": 8, "p5.48xlarge": 8, "p5e.48xlarge": 8,
    "g4dn.xlarge": 1, "g4dn.12xlarge": 4, "g4dn.metal": 8, "g5.xlarge": 1, "g5.12xlarge": 4, "g5.48xlarge": 8,
    "trn1.32xlarge": 16,
    "a2-highgpu-1g": 1, "a2-highgpu-2g": 2, "a2-highgpu-4g": 4, "a2-highgpu-8g": 8, "a2-megagpu-16g": 16,
    "a3-highgpu-8g": 8,
    "nd96asr_v4": 8, "nd96amsr_a100_v4": 8, "nd40rs_v2": 8, "nc24rs_v3": 4,
    "dgx-1": 8, "dgx-2": 16, "dgx a100": 8, "dgx-a100": 8, "dgx h100": 8, "dgx-h100": 8, "hgx": 8,
}  # fmt: skip


def ranks_per_node(hardware: str) -> int | None:
    """Ranks per node according to a hardware line.

    Args:
        hardware: Words such as ``4 nodes x 8 V100``, ``8xK80/node``, ``EC2 p2.8xlarge``.

    Returns:
        Ranks (accelerators) per node; ``None`` where the line does not say, which is not the same as a single node.

    >>> lines = ("4 nodes x 8 V100", "four A100 GPUs per node", "EC2 p2.8xlarge", "a cluster")
    >>> [ranks_per_node(line) for line in lines]
    [8, 4, 8, None]
    """
    for pattern in _PATTERNS:
        found = re.search(pattern, hardware, re.IGNORECASE)
        if found:
            return _number(found[1])
    if _ALL_ON_ONE.search(hardware):
        devices = [_number(found[1]) for found in _DEVICES.finditer(_ALL_ON_ONE.sub(" ", hardware))]
        if devices:
            return max(devices)
    lower = hardware.lower()
    machines = [name for name in _MACHINES if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", lower)]
    return _MACHINES[max(machines, key=len)] if machines else None


def _number(word: str) -> int:
    return _NUMBER_WORDS.get(word.lower()) or int(word)
