"""Slurm: the site, submission, what runs inside a job, preflight, and a minicluster on one machine."""
