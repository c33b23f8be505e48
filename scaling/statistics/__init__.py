"""Intervals, tests and steady-state detection for measured throughput."""
