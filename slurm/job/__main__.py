"""``python -m saman.slurm.job RUN``: an attempt of a run inside its Slurm job."""

from __future__ import annotations

import contextlib
import sys

from saman.configs.errors import UserError
from saman.runs.log import show_log_if_asked
from saman.slurm.job.start import main

if __name__ == "__main__":
    with contextlib.suppress(UserError):  # a wrong level must not end a run
        show_log_if_asked()
    sys.exit(main(sys.argv[1:]))
