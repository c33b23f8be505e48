"""Workflows on disk: their steps, and the runs of each."""
