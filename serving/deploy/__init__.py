"""Files with which other programs run `saman serve`: systemd, Kubernetes, haproxy, Slurm. Pure."""
