"""The placement of ranks on nodes and cores, and the environment that they start with."""
