"""Copies of data on this node: what the launcher tells the ranks about them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saman.configs.home_folder import in_home
from saman.runs import variables


def staged_variable(copies: Mapping[Path, Path]) -> dict[str, str]:
    """The variable that tells ranks the copy of each file and folder; none without copies."""
    names = {str(path): str(copy) for path, copy in copies.items()}
    return {variables.STAGED_DATA: json.dumps(names)} if names else {}


def with_copies(args: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The arguments of a data source, with the copies on this node instead of what the launcher copied.

    >>> with_copies({"folder": "/data/x", "size": 3}, {"SAMAN_STAGED_DATA": '{"/data/x": "/tmp/x"}'})
    {'folder': '/tmp/x', 'size': 3}
    """
    text = environ.get(variables.STAGED_DATA)
    if not text:
        return dict(args)
    copies: dict[str, str] = json.loads(text)
    return {
        name: copies.get(str(in_home(value)), value) if isinstance(value, str) and value else value
        for name, value in args.items()
    }
