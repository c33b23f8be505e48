"""``python -m saman.launcher.rank RUN -- COMMAND``: what every start method starts once per process."""

from __future__ import annotations

import contextlib
import sys

from saman.configs.errors import UserError
from saman.launcher.rank.keeper import run_kept
from saman.launcher.rank.wrapper import main
from saman.runs.log import show_log_if_asked

if __name__ == "__main__":
    with contextlib.suppress(UserError):  # a wrong level must not end a run
        show_log_if_asked()
    sys.exit(run_kept(lambda: main(sys.argv[1:])))
