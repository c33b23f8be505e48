"""``python -m saman.launcher.rank RUN -- COMMAND``: what every start method starts once per process."""

from __future__ import annotations

import sys

from saman.launcher.rank.wrapper import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
