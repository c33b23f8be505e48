"""From run folders to results, curves and findings."""
