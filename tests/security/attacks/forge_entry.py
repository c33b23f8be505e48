"""``forge_entry.py MODEL_FOLDER FACTS``: appends an entry to a model's audit log, with every digest in order.

What anyone with write access to a models folder can do. Standard library only, without saman's own code.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def forge(model: Path, facts: dict[str, Any]) -> Path:
    """Append an entry with these facts; its chain and its head are sound. Returns its file."""
    log = model / ".saman" / "log"
    newest = json.loads(sorted(log.glob("*.json"))[-1].read_text())
    number = newest["number"] + 1
    head = {"schema": 1, "number": number, "previous": newest["digest"], "id": "forged"}
    body = {**head, "time": 1_700_000_000.0, "who": "mallory@x", "why": "", **facts}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    file = log / f"{number:08d}.json"
    file.write_text(json.dumps({**body, "digest": digest}))
    (log.parent / "head.json").write_text(json.dumps({"number": number, "digest": digest}))
    return file


if __name__ == "__main__":
    forge(Path(sys.argv[1]), json.loads(sys.argv[2]))
