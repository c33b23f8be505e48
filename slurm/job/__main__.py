"""``python -m saman.slurm.job RUN``: one start of a run inside its Slurm job."""

from __future__ import annotations

import sys

from saman.slurm.job.start import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
