"""Gates and paired comparisons that a version must pass."""
