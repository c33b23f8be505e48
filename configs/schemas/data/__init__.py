"""The schema of ``data``."""
