"""Work that cron or Slurm starts again and again."""
