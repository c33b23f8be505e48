"""``python -m saman.trainers.infer plan | work JOB``: look at the input, or answer this rank's part of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from saman.runs import variables


def main(given: Sequence[str] | None = None) -> int:
    """``plan`` writes ``plan.json`` beside the job; ``work`` answers. 2 where the input is wrong, with the reason."""
    verb, job = list(sys.argv[1:] if given is None else given)
    folder = Path(job)
    from saman.trainers.infer.rows import UnreadableInput

    try:
        if verb == "plan":
            from saman.trainers.infer.job import plan

            plan(folder)
        else:
            from saman.trainers.infer.work import work

            rank, size = int(os.environ.get(variables.FIRST_RANK, "0")), int(os.environ.get(variables.SIZE, "1"))
            work(folder, rank, size)
    except UnreadableInput as error:
        print(json.dumps({"problem": str(error)}), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
