"""From a run to a submitted job: resource request, limits, job script, code copy, sbatch."""
