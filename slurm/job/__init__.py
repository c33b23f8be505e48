"""What runs inside a Slurm job: the allocation, the attempt, and what follows it."""
