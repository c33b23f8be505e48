"""Gathering: one process per node copies what its ranks write from the node's private folder to the run folder."""
