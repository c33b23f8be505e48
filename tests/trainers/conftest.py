"""Imports the cases of the trainers' tests like a user's code: from a folder at the end of ``sys.path``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
