"""One of many processes that publish, promote, roll back, retire and prune at random for some seconds.

Run as ``python crowd.py FOLDER SEED SECONDS``; prints what it did and every error that no such request may meet.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from registry_kit import finished_run

from saman.configs.errors import UserError
from saman.registry.lifecycle.promotion import promote, unlabel
from saman.registry.lifecycle.pruning import prune, retire
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.rollback import rollback
from saman.registry.listing import list_versions

# What a request may rightly be answered with when others changed the state since it was made.
_EXPECTED = ("does not exist", "was pruned", "is in use", "is retired", "was stable before", "is stable", "labelled")
_EXPECTED_TOO = ("has no published version", "no model is called", "pruned as soon as", "is missing")


def main(folder: Path, seed: int, seconds: float) -> None:
    dice = random.Random(seed)
    did: Counter[str] = Counter()
    published, errors = [], []
    models = folder / "models"
    until = time.monotonic() + seconds
    number = 0
    while time.monotonic() < until:
        number += 1
        name = dice.choice(("one", "two"))
        action = dice.choices(
            ("publish", "promote", "canary", "rollback", "retire", "prune", "list"), (6, 3, 2, 1, 1, 2, 1)
        )[0]
        try:
            if action == "publish":
                run = finished_run(folder / f"p{seed}", model=name, seed=seed * 100_000 + number)
                version = publish(run, models)
                published.append([name, version.number, run.id])
            elif action == "promote":
                promote(models, name)
            elif action == "canary":
                promote(models, name, "canary")
            elif action == "rollback":
                rollback(models, name)
            elif action == "retire":
                retire(models, f"{name}:{dice.randint(1, 40)}")
            elif action == "prune":
                prune(models, name, keep=dice.randint(2, 5))
            else:
                list_versions(models)
                unlabel(models, name, "canary")
            did[action] += 1
        except UserError as error:
            did[f"{action} refused"] += 1
            if not any(part in str(error) for part in _EXPECTED + _EXPECTED_TOO):
                errors.append(f"{action}: {error}")
    print(json.dumps({"did": did, "published": published, "errors": errors}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
