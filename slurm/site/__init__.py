"""What Slurm and the site say: commands, limits, job states, host lists."""
