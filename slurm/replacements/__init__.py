"""Nodes in place of those that an elastic run has lost, each through a small job of its own."""
