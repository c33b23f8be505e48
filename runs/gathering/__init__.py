"""Gathers what the ranks of a node write in a folder of the node's own, and writes it to the run folder."""
