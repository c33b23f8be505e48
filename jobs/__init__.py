"""Status, logs, wait, cancel and resume of any run, local or on Slurm."""
