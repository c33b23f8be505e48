"""What runs inside a Slurm job: the allocation, the attempt, and the decision after it."""
