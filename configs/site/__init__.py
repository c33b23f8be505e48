"""Parts of a cluster file's schema: safe texts, the set-up of a job, options of sbatch."""
