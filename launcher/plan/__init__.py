"""Placement of ranks on nodes and cores, and the environment they start with."""
