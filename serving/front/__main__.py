"""``python -m saman.serving.front``: a front process; the supervisor writes its settings to standard input."""

from __future__ import annotations

import sys

from saman.serving.front.process import main

if __name__ == "__main__":
    sys.exit(main())
