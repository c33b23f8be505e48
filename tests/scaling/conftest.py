"""Makes the generator of synthetic runs, which the benchmark uses too, importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "report"))
