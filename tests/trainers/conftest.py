"""The trainers' tests import their cases as a user's code is imported: from a folder at the end of ``sys.path``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
