"""Slurm at a site: commands, limits, job states, pending reasons, host lists."""
