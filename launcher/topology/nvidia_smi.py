"""Reads the table of ``nvidia-smi topo -m``. Pure."""

from __future__ import annotations

import re

from saman.launcher.topology.model import LINKS, Topology, parse_list

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def parse_topology(text: str) -> Topology:
    """The topology in the table; empty for other text.

    The NUMA domains are those of the column "NUMA Affinity"; their cores are the "CPU Affinity" of their GPUs. Older
    drivers name adapters (mlx5_0) in the table, newer ones number them (NIC0) and add a legend.
    """
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    names = dict(re.findall(r"^\s*(NIC\d+):\s*(\S+)\s*$", text, re.MULTILINE))
    header = next((index for index, line in enumerate(lines) if re.match(r"\s*GPU0\s", line) and "CPU" in line), None)
    if header is None:
        return Topology({})
    columns = lines[header].partition("CPU")[0].split()
    cores: dict[int, tuple[int, ...]] = {}
    gpus: dict[str, int] = {}
    links: dict[tuple[str, str], str] = {}
    for line in lines[header + 1 :]:
        row, *cells = line.split() or [""]
        if not re.fullmatch(r"GPU\d+", row):
            continue
        gpu = row.removeprefix("GPU")
        affinity = cells[len(columns) :]
        if len(affinity) >= 2 and affinity[1].isdigit():
            gpus[gpu] = int(affinity[1])
            cores[int(affinity[1])] = parse_list(affinity[0])
        for column, link in zip(columns, cells, strict=False):
            if not column.startswith("GPU") and link in LINKS:
                links[gpu, names.get(column, column)] = link
    return Topology(cores, gpus, links=links)
