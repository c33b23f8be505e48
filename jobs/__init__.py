"""Any run, on this machine or on Slurm: submit, status, logs, wait, cancel, resume, publish."""
