"""Exports of a version to other runtimes, checked against the original."""
