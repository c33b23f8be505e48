"""What this machine offers: cores, GPUs, memory, MPI, Horovod, provenance."""
