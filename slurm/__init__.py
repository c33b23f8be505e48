"""Slurm jobs: the script, the client, the life of a job, and the one-machine minicluster."""
