"""Interactive work on compute nodes: a shell inside an allocation, and a Jupyter server with its tunnel."""
