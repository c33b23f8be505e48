"""``python -m saman.trainers.infer plan | work JOB``: count the rows of the inputs, or answer this rank's chunks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from saman.runs import variables


def main(given: Sequence[str] | None = None) -> int:
    """Run the command; returns exit status 2 for unreadable input, with the reason as JSON on standard error."""
    verb, job = list(sys.argv[1:] if given is None else given)
    folder = Path(job)
    from saman.trainers.infer.rows import UnreadableInput

    try:
        if verb == "plan":
            from saman.trainers.infer.job import write_plan

            write_plan(folder)
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
